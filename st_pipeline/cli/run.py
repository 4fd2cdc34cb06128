"""`run` and `demo`: materialise a stream through Dagster, periods in order."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json
from st_pipeline.errors import InputError

EMBEDDED = "roadnet"


@click.command()
@click.argument("stream")
@click.option("--periods", metavar="A..B", help="Only these periods, or one; a model needs its previous period.")
@click.option("--models", metavar="A,B", help="Only these models, without report and leaderboard.")
@click.option("--data", type=click.Path(), help="Folder of raw data, instead of ST_PIPELINE_DATA.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def run(stream: str, periods: str | None, models: str | None, data: str | None, as_json: bool) -> None:
    """Bring STREAM up to date: only what is missing or stale is computed, through Dagster, periods in order."""
    if data is not None:
        if not Path(data).is_dir():
            raise InputError(f"--data {data}: there is no such folder")
        os.environ["ST_PIPELINE_DATA"] = str(Path(data).resolve())
    materialise(stream, periods=periods, models=models, as_json=as_json, show=not models)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def demo(as_json: bool) -> None:
    """Materialise the embedded, simulated road network: all periods, all models; print the leaderboard."""
    materialise(EMBEDDED, periods=None, models=None, as_json=as_json, show=True)


def materialise(name: str, *, periods: str | None, models: str | None, as_json: bool, show: bool) -> None:
    """Run a stream with progress, print what came out, and exit with 1 if something failed."""
    from st_pipeline.cli.look import has_leaderboard, leaderboard_rows, report_path, show_leaderboard
    from st_pipeline.cli.runner import Runner, scope
    from st_pipeline.progress import listening
    from st_pipeline.streams import find_stream

    begin = time.perf_counter()
    stream = find_stream(name)
    wanted = scope(stream, periods, models)
    with console.status(f"{name}: loading") if not as_json else nullcontext() as status:
        from resources.instance import open_instance
        from st_pipeline.definitions import defs

        instance = open_instance()
        runner = Runner(stream, instance, defs)
        show_progress = _Progress(status, as_json)
        with listening(show_progress.told):
            outcome = runner.run(wanted, show_progress.stage)
    seconds = time.perf_counter() - begin
    if as_json:
        rows = leaderboard_rows(stream) if show and has_leaderboard(stream) else []
        print_json(
            {
                **vars(outcome),
                "seconds": round(seconds, 1),
                "report": str(report_path(stream, None) or ""),
                "leaderboard": rows,
            }
        )
    else:
        if show and has_leaderboard(stream):
            show_leaderboard(stream)
        _print_outcome(name, outcome, seconds)
        if show and (report := report_path(stream, None)):
            console.print(f"report: {report}", soft_wrap=True)
    if not outcome.ok:
        raise SystemExit(1)


class _Progress:
    """One line that says what is going on, and one line for every period done."""

    def __init__(self, status: Any, quiet: bool) -> None:
        self.status = status
        self.quiet = quiet
        self.begin = time.perf_counter()

    def stage(self, text: str) -> None:
        if not self.quiet:
            console.print(f"[dim]{time.perf_counter() - self.begin:6.1f} s[/dim]  {text}")

    def told(self, what: str, text: str) -> None:
        if not self.quiet:
            self.status.update(f"{what}: {text}")


def _print_outcome(name: str, outcome: Any, seconds: float) -> None:
    for asset, reason in outcome.failed.items():
        console.print(f"[red]failed[/red]  {asset}: {escape(reason)}", soft_wrap=True)
    if outcome.blocked:
        shown = ", ".join(outcome.blocked[:6]) + (
            f" and {len(outcome.blocked) - 6} more" if len(outcome.blocked) > 6 else ""
        )
        console.print(
            f"[yellow]not run[/yellow]  {len(outcome.blocked)} assets that depend on it: {shown}", soft_wrap=True
        )
    done = (
        f"{len(outcome.materialised)} assets materialised"
        if outcome.materialised
        else "nothing to do, everything is up to date"
    )
    console.print(f"{name}: {done} in {seconds:.1f} s")
