"""`alerts`: what is open, a test of the channels, and the check that only an outsider can make."""

from __future__ import annotations

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table

COLUMNS = {"severity": "severity", "rule": "rule", "since": "since", "message": "message", "runbook": "runbook"}


@click.command()
@click.option("--test", is_flag=True, help="Send a test through every channel.")
@click.option("--check", is_flag=True, help="Exit with 1 if the daemon is down; for cron, or another machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def alerts(test: bool, check: bool, as_json: bool) -> None:
    """List the alerts that are open; channels are set up by ST_PIPELINE_ALERT_* variables."""
    from st_pipeline.alerts.book import Book
    from st_pipeline.alerts.channels import channels_from_environment
    from st_pipeline.alerts.heartbeat import daemon_down

    book = Book(channels_from_environment())
    down = daemon_down() if check else []
    if check:
        book.tell(down, lambda key: key == "daemon_down:daemon")
        book.deliver()
    sent = book.test() if test else []
    found = book.open()
    if as_json:
        print_json({"open": found, "test": sent, "daemon": None if not check else "down" if down else "alive"})
    else:
        print_table("", found, COLUMNS) if found else console.print("[green]no alert is open[/green]")
        for result in sent:
            mark = "[green]sent[/green]" if result["ok"] else "[red]failed[/red]"
            console.print(f"{mark}  {escape(result['channel'] + ': ' + result['reason'])}", soft_wrap=True)
    if down or any(not result["ok"] for result in sent):
        raise SystemExit(1)
