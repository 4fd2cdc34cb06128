"""`forecast`: bring the newest forecasts of a stream up to date, and print them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from rich.markup import escape

from st_pipeline.cli.output import console, moment_of, print_json, print_table, shown
from st_pipeline.cli.run import execute, print_outcome, take_data_from
from st_pipeline.errors import InputError
from st_pipeline.streams import find_stream

if TYPE_CHECKING:
    import polars as pl

    from st_pipeline.periods import Period
    from st_pipeline.streams import Stream

MOST_STEPS = 6  # of a forecast, that the table shows


@click.command()
@click.argument("stream")
@click.option("--at", metavar="TIME", help="The newest forecast issued by then, e.g. 2014-12-01T08:00.")
@click.option("--data", type=click.Path(), help="Folder of raw data, instead of ST_PIPELINE_DATA.")
@click.option("--json", "as_json", is_flag=True, help="Print the tidy rows as one JSON document.")
def forecast(stream: str, at: str | None, data: str | None, as_json: bool) -> None:
    """The newest forecast of every sensor of STREAM, with intervals, tier and reasons.

    Data that are stale are brought up to date through Dagster and the forecasts that are due are published; nothing is
    trained.
    """
    from st_pipeline.cli.runner import Scope

    found = find_stream(stream)
    if not found.config.models:
        raise InputError(f"stream {stream!r} has no model; add one under `models` to its file")
    take_data_from(data)
    moment = None if at is None else moment_of(at, found.config.timezone)
    period = _period(found, moment)
    begin = time.perf_counter()
    outcome = execute(found, Scope((period.key,), forecasts=True), quiet=True)
    if not outcome.ok:
        if as_json:
            print_json(vars(outcome))
        else:
            print_outcome(stream, outcome, time.perf_counter() - begin)
        raise SystemExit(1)
    rows = _newest(found, period, moment)
    if as_json:
        print_json(rows.to_dicts())
    else:
        _show(found, rows)


def _period(stream: Stream, at: datetime | None) -> Period:
    """The period that a forecast issued then belongs to; by default the newest that has readings.

    Raises:
        InputError: there is none.
    """
    from resources.source import open_source

    periods = [period for period in stream.config.calendar.begun() if period.start < datetime.now(UTC)]
    if at is not None:
        for period in periods:
            if period.start < at <= period.end:
                return period
        known = f"expected a time from {periods[0].start} to {periods[-1].end}" if periods else "none has begun"
        raise InputError(f"stream {stream.name!r} has no period at {at.isoformat()}; {known}")
    reader = open_source(stream)
    for period in reversed(periods):
        if len(reader.readings(period)):
            return period
    raise InputError(f"stream {stream.name!r} has no readings in any period; see `st-pipeline check {stream.name}`")


def _newest(stream: Stream, period: Period, at: datetime | None) -> pl.DataFrame:
    """The newest vintage of the newest forecast issued by then.

    Raises:
        InputError: none was due by then.
    """
    import polars as pl

    from st_pipeline.forecasting.published import Published, latest
    from st_pipeline.storage import lake

    rows = Published.read(lake(), (stream.name, "forecast"), period.key).rows
    by_then = rows.filter(pl.col("issued_at") <= at) if at is not None else rows
    if by_then.is_empty():
        first = f"the first is issued at {rows['issued_at'].sort()[0]}" if len(rows) else "it has too few readings yet"
        raise InputError(f"stream {stream.name!r}: no forecast is due in period {period.key} by then; {first}")
    return latest(by_then.filter(pl.col("issued_at") == pl.col("issued_at").max()))


def _show(stream: Stream, rows: pl.DataFrame) -> None:
    zone = ZoneInfo(stream.config.timezone)
    first = rows.row(0, named=True)
    steps = sorted(set(rows["horizon"].to_list()))
    chosen = steps if len(steps) <= MOST_STEPS else [steps[round(i * (len(steps) - 1) / 5)] for i in range(MOST_STEPS)]
    issued = f"{first['issued_at'].astimezone(zone):%Y-%m-%d %H:%M %z}"
    columns = {"sensor": "sensor", "tier": "tier"}
    for row in rows.filter(rows["sensor_id"] == first["sensor_id"]).to_dicts():
        if row["horizon"] in chosen:
            columns[str(row["horizon"])] = f"{row['target_time'].astimezone(zone):%H:%M}"
    columns |= {"interval": f"90 % at step {steps[-1]}", "reasons": "reasons"}
    lines = [_line(own.to_dicts()) for _, own in rows.group_by("sensor_id", maintain_order=True)]
    unit = stream.config.rules(stream.config.variable_names[0]).unit
    title = f"{stream.name}: {stream.config.variable_names[0]}{f' in {unit}' if unit else ''}, issued {issued}"
    console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    print_table("", lines, columns)


def _line(rows: list[dict[str, Any]]) -> Mapping[str, Any]:
    """One sensor's forecast: the tier of its first step, points, the last interval."""
    last = rows[-1]
    interval = f"{shown(last['q05'])} to {shown(last['q95'])}" if last["q05"] is not None else None
    reasons = ", ".join(dict.fromkeys(word for row in rows for word in row["reasons"])) or None
    points = {str(row["horizon"]): row["point"] for row in rows}
    return {"sensor": rows[0]["sensor_id"], "tier": rows[0]["tier"], **points, "interval": interval, "reasons": reasons}
