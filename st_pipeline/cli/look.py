"""`streams`, `leaderboard`, `report`: what there is and what came out."""

from __future__ import annotations

from typing import Any

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_costs, print_json, print_leaderboard, print_table
from st_pipeline.errors import InputError, closest
from st_pipeline.storage import FRAME, HTML, JSON, Place, lake
from st_pipeline.streams import Stream, find_stream, load_streams


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def streams(as_json: bool) -> None:
    """List all streams, and what is wrong with the broken ones."""
    found, faults = load_streams()
    rows = [_stream_row(stream) for stream in found]
    broken = [{"name": fault.name, "file": str(fault.file), "problem": fault.message} for fault in faults]
    if as_json:
        print_json({"streams": rows, "broken": broken})
        return
    columns = {
        "name": "stream",
        "every": "period",
        "periods": "periods",
        "reports": "reports",
        "models": "models",
        "description": "",
    }
    print_table("", rows, columns)
    for fault in broken:
        console.print(f"[red]broken[/red]  {escape(fault['problem'])}", soft_wrap=True)


def _stream_row(stream: Stream) -> dict[str, Any]:
    config = stream.config
    return {
        "name": stream.name,
        "description": config.description,
        "folder": str(stream.folder),
        "every": config.periods.every,
        "periods": len(config.calendar.periods()),
        "open_ended": config.periods.end is None,
        "reports": len(lake().periods((stream.name, "report"), HTML.extension)),
        "models": ", ".join(model.name for model in config.models),
        "champion": config.champion,
    }


@click.command()
@click.argument("stream")
@click.option("--json", "as_json", is_flag=True, help="Print the tidy rows as one JSON document.")
def leaderboard(stream: str, as_json: bool) -> None:
    """Scores and cost of all models of STREAM, best first."""
    found = find_stream(stream)
    if as_json:
        print_json(leaderboard_rows(found))
    else:
        show_leaderboard(found)


def has_leaderboard(stream: Stream) -> bool:
    """Whether the stream has one."""
    return lake().exists((stream.name, "leaderboard"), None, FRAME)


def leaderboard_rows(stream: Stream) -> list[dict[str, Any]]:
    """Tidy rows: stream, model, protocol, seed, trained_through, period, cohort, metric, horizon, value."""
    return list(lake().read((stream.name, "leaderboard"), None, FRAME).iter_rows(named=True))


def show_leaderboard(stream: Stream) -> None:
    """Print the summary and the cost of a stream."""
    from st_pipeline.evaluation.leaderboard import summary

    scores = lake().read((stream.name, "leaderboard"), None, FRAME)
    print_leaderboard(stream.name, summary(scores, stream.config.horizon).to_dicts(), stream.config.shown_model)
    console.print(
        "[dim]MAE: published average, the mean over h of the error over steps 1..h, zero targets left out[/dim]\n"
    )
    print_costs(_cost_rows(stream))


def _cost_rows(stream: Stream) -> list[dict[str, Any]]:
    """One row per model: seconds in all and per later period, parameters and latency of the last period."""
    from st_pipeline.evaluation.cost_ledger import costs, costs_by_model

    diagnostics = {}
    for model in stream.config.models:
        key = (stream.name, model.name, "diagnostics")
        diagnostics[model.name] = {
            period: lake().read(key, period, JSON) for period in lake().periods(key, JSON.extension)
        }
    return costs_by_model(costs(diagnostics)).to_dicts()


@click.command()
@click.argument("stream")
@click.option("--period", help="Key of the period; by default the newest that has a report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def report(stream: str, period: str | None, as_json: bool) -> None:
    """Where the report of STREAM lies."""
    found = find_stream(stream)
    path = report_path(found, period)
    if path is None:
        raise InputError(f"stream {stream!r} has no report yet; run `st-pipeline run {stream}` first")
    print_json({"stream": stream, "period": path.stem, "path": str(path)}) if as_json else click.echo(str(path))


def report_path(stream: Stream, period: str | None) -> Place | None:
    """The newest report, or that of a period; None if there is none at all.

    Raises:
        InputError: there is no report of this period.
    """
    key = (stream.name, "report")
    known = lake().periods(key, HTML.extension)
    if period is not None and period not in known:
        raise InputError(f"stream {stream.name!r} has no report of period {period!r}; {closest(period, known)}")
    return lake().path(key, period or known[-1], HTML.extension) if known else None
