"""`reproduce`: the published numbers beside ours."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table
from st_pipeline.errors import InputError, closest
from st_pipeline.evaluation.published import Table, published_streams, published_tables
from st_pipeline.files import write_atomic
from st_pipeline.storage import FRAME, JSON, lake
from st_pipeline.streams import Stream, load_streams

if TYPE_CHECKING:
    from st_pipeline.cli.runner import Outcome
    from st_pipeline.evaluation.reproduction import Compared, Results

LIST, PARAMETERS = "list", "parameters"


@click.command()
@click.argument("table", required=False)
@click.option("--run", "run_first", is_flag=True, help="First materialise the table's models on the streams loaded.")
@click.option("--write", type=click.Path(), metavar="FILE", help="Write all tables into a Markdown document instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def reproduce(table: str | None, run_first: bool, write: str | None, as_json: bool) -> None:
    """Show the numbers of a published TABLE beside ours, or `list` the tables.

    TABLE is 1 to 4 (EAC, ICLR 2025), few-shot, ranks, periods, or parameters, which needs no data.
    """
    _check_call(table, run_first=run_first, write=write, as_json=as_json)
    if write is not None:
        _write(Path(write))
    elif table == LIST:
        _show_list(as_json)
    elif table == PARAMETERS:
        _show_parameters(as_json)
    else:
        _show_table(published_tables()[str(table)], run_first=run_first, as_json=as_json)


def _check_call(table: str | None, *, run_first: bool, write: str | None, as_json: bool) -> None:
    """
    Raises:
        InputError: there is no such table, or options do not go together.
    """
    known = [*published_tables(), PARAMETERS, LIST]
    if write is not None and (table is not None or run_first or as_json):
        raise InputError("--write FILE writes all tables; give no table and no other option with it")
    if write is None and table is None:
        raise InputError(f"which table? {closest('', known)}")
    if table is not None and table not in known:
        raise InputError(f"there is no published table {table!r}; {closest(table, known)}")
    if run_first and table in (PARAMETERS, LIST):
        raise InputError(f"--run goes with a table of errors, and {table!r} is none; leave it out")


def _write(file: Path) -> None:
    from st_pipeline.reporting.published_section import with_section

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError(f"--write {file}: cannot be read: {reason}; expected a Markdown document") from None
    write_atomic(file, with_section(text, str(file)).encode())
    console.print(f"{file}: written", soft_wrap=True)


def _show_list(as_json: bool) -> None:
    rows = [
        {"table": one.table, "title": one.title, "streams": ", ".join(one.streams), "numbers": len(one.rows)}
        for one in published_tables().values()
    ]
    rows.append({"table": PARAMETERS, "title": "Numbers of parameters", "streams": "", "numbers": None})
    if as_json:
        print_json({"tables": rows})
    else:
        columns = {"table": "table", "title": "", "streams": "published streams", "numbers": "numbers"}
        print_table("published tables", rows, columns)


def _show_parameters(as_json: bool) -> None:
    from st_pipeline.evaluation.parameter_counts import counted, counted_backbones

    rows = [
        {
            "name": one.entry.name,
            "method": one.entry.method,
            "stream": one.entry.stream,
            "period": one.period + 1,
            "nodes": one.nodes,
            "parameters": one.entry.counts,
            "published": one.published,
            "ours": one.ours,
            "difference": one.difference,
            "source": one.entry.source,
        }
        for one in counted()
    ]
    alone = [
        {
            "name": one.entry.name,
            "network": one.entry.network,
            "nodes": one.entry.nodes,
            "published": one.entry.value,
            "ours": one.ours,
            "unused": one.entry.unused,
            "difference": one.difference,
            "source": one.entry.source,
        }
        for one in counted_backbones()
    ]
    if as_json:
        print_json({"table": PARAMETERS, "title": "Numbers of parameters", "rows": rows, "backbones": alone})
    else:
        for title, shown in (("built at the published sizes of the networks", rows), ("backbones alone", alone)):
            print_table(f"parameters: {title}", shown, {key: key for key in shown[0]})


def _show_table(table: Table, *, run_first: bool, as_json: bool) -> None:
    from st_pipeline.evaluation.reproduction import compare

    names = [published_streams()[name].ours for name in table.streams]
    found, broken = load_streams()
    loaded = [stream for stream in found if stream.name in names]
    faults = {fault.name: fault.message for fault in broken if fault.name in names}
    runs = _materialised(table, loaded, quiet=as_json) if run_first else {}
    rows = [_row(one) for one in compare(table.rows, {one.name: _results(one) for one in loaded}, faults)]
    if as_json:
        outcomes = {name: vars(outcome) for name, outcome in runs.items()}
        print_json({"table": table.table, "title": table.title, "rows": rows, "runs": outcomes})
    else:
        _print(table, rows)
    if not all(outcome.ok for outcome in runs.values()):
        raise SystemExit(1)


def _materialised(table: Table, streams: Iterable[Stream], *, quiet: bool) -> dict[str, Outcome]:
    """Outcome of each stream that has models of the table: these first, then the leaderboard."""
    from st_pipeline.cli.run import execute, print_outcome
    from st_pipeline.cli.runner import Scope, scope
    from st_pipeline.evaluation.reproduction import models_of

    outcomes = {}
    for stream in streams:
        if models := models_of(table.rows, stream.config):
            begin = time.perf_counter()
            leaderboard = Scope(periods=())
            outcome = execute(stream, scope(stream, None, ",".join(models)), leaderboard, quiet=quiet)
            if not quiet:
                print_outcome(stream.name, outcome, time.perf_counter() - begin)
            outcomes[stream.name] = outcome
    return outcomes


def _results(stream: Stream) -> Results:
    """What lies in the lake of a stream."""
    from st_pipeline.evaluation.reproduction import Results

    key = (stream.name, "leaderboard")
    if not lake().exists(key, None, FRAME):
        return Results(stream.config)
    seconds = {model.name: _seconds((stream.name, model.name, "diagnostics")) for model in stream.config.every_model}
    return Results(stream.config, lake().read(key, None, FRAME), {name: s for name, s in seconds.items() if s})


def _seconds(key: tuple[str, ...]) -> float:
    """Seconds of training over all periods; 0 where nothing is known."""
    documents = (lake().read(key, period, JSON) for period in lake().periods(key, JSON.extension))
    return sum(float(document["cost"]["seconds"]) for document in documents if document.get("cost"))


def _row(found: Compared) -> dict[str, Any]:
    row = found.row
    return {
        "table": row.table,
        "name": row.name,
        "method": row.method,
        "stream": row.stream,
        "metric": row.metric,
        "horizon": row.horizon,
        "period": None if row.period is None else row.period + 1,
        "published": row.value,
        "spread": row.spread,
        "ours": found.ours,
        "model": found.model,
        "seeds": found.seeds,
        "difference": found.difference,
        "reason": found.reason,
        "source": row.source,
    }


def _print(table: Table, rows: list[dict[str, Any]]) -> None:
    """The table; a reason is a number there, and a line below."""
    reasons = [reason for reason in dict.fromkeys(row["reason"] for row in rows) if reason]
    numbers = {reason: f"({index})" for index, reason in enumerate(reasons, start=1)}
    columns = {
        "name": "as published",
        "method": "method",
        "stream": "stream",
        "metric": "metric",
        "published": "published",
        "spread": "± runs",
        "ours": "ours",
        "seeds": "seeds",
        "difference": "difference",
        "reason": "reason",
    }
    shown = [{**row, "reason": numbers.get(row["reason"])} for row in rows]
    print_table(f"{table.table}: {table.title}", shown, columns)
    for reason, number in numbers.items():
        console.print(f"{number} {escape(reason)}", soft_wrap=True)
    sources = dict.fromkeys(f"{row['source']}, {row['horizon']}" for row in rows)
    console.print(f"[dim]{escape('; '.join(sources))}; difference: ours minus published[/dim]", soft_wrap=True)
