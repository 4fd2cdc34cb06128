"""Which periods changed raw files touch: by the times in them, by what was landed from them, by comparison."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from st_pipeline.data.inventory import facts
from st_pipeline.errors import InputError
from st_pipeline.periods import Calendar, Period
from st_pipeline.readers.base import Reader
from st_pipeline.storage import FRAME, Lake, digest
from st_pipeline.streams import Stream

LANDED = ("raw_readings", "edges")
COMING = 2  # periods that are not over yet whose rows are noted, of a stream without an end


def known_periods(calendar: Calendar, now: datetime | None = None) -> list[Period]:
    """The periods that rows can belong to: all there are, and the next ones of an open-ended stream."""
    found = calendar.periods(now)
    coming = [] if calendar.end else [calendar.period(len(found) + step) for step in range(COMING)]
    return [*found, *coming]


def landed_from(lake: Lake, stream: str, names: Iterable[str]) -> list[str]:
    """Keys of the periods whose landed rows came from these files (labels, or names without folder)."""
    wanted = set(names)
    found = []
    for period in lake.periods((stream, "raw_readings"), FRAME.extension):
        rows = lake.scan((stream, "raw_readings"), period)
        files = set(rows.select(pl.col("file").cast(pl.String)).unique().collect()["file"])
        if wanted & (files | {Path(label).name for label in files}):
            found.append(period)
    return found


def differs(stream: Stream, reader: Reader, lake: Lake, period: Period) -> bool:
    """Whether a period would land otherwise than it is in the lake.

    Raises:
        InputError: a raw file cannot be read.
    """
    names = LANDED if reader.has_edges else LANDED[:1]
    return any(_stored(lake, stream.name, name, period.key) != _now(reader, name, period) for name in names)


def _stored(lake: Lake, stream: str, name: str, period: str) -> str | None:
    try:
        return digest(lake.payload((stream, name), period, FRAME))
    except FileNotFoundError:
        return None


def _now(reader: Reader, name: str, period: Period) -> str | None:
    if name == "edges":
        return digest(FRAME.dump(reader.edges(period)))
    rows = reader.readings(period)
    return digest(FRAME.dump(rows)) if len(rows) else None


def is_over(period: Period, step_seconds: float, lake: Lake, stream: str, now: datetime | None = None) -> bool:
    """Whether a period's calendar end has passed, or the landed readings reach it."""
    if period.end <= (now or datetime.now(UTC)):
        return True
    key = (stream, "raw_readings")
    if not lake.exists(key, period.key, FRAME):
        return False
    newest = lake.scan(key, period.key).select(pl.col("timestamp").max()).collect().item()
    if newest is None:
        return False
    end = period.end.astimezone(UTC) if newest.tzinfo else period.end.replace(tzinfo=None)
    return bool((end - newest).total_seconds() <= step_seconds)


def may_train(stream: Stream, period: Period, lake: Lake, now: datetime | None = None) -> bool:
    """Whether models may learn a period: it is over, or the stream file does not wait for that."""
    config = stream.config
    if config.automation.train_incomplete:
        return True
    return is_over(period, config.step.total_seconds(), lake, stream.name, now)


def require_over(stream: Stream, period: Period, lake: Lake) -> None:
    """
    Raises:
        InputError: the period is not over, and the stream file does not say that models may be trained before.
    """
    if may_train(stream, period, lake):
        return
    raise InputError(
        f"stream {stream.name!r}: period {period.key} runs until {period.end.isoformat()} and its readings do not "
        "reach that yet; its models are trained when it is over, or with `automation: {train_incomplete: true}`"
    )


def row_changes(reader: Reader, lake: Lake, stream: str, period: Period) -> dict[str, int]:
    """How many rows of a period came, and how many went, since it was landed; a corrected row is one of each.

    Raises:
        InputError: a raw file, or what was landed, cannot be read.
    """
    now = _rows(reader.readings(period))
    key = (stream, "raw_readings")
    if not lake.exists(key, period.key, FRAME):
        return {"came": len(now), "went": 0}
    before = _rows(lake.read(key, period.key, FRAME))
    columns = [name for name in now.columns if name in before.columns]
    came = now.join(before, on=columns, how="anti", nulls_equal=True)
    went = before.join(now, on=columns, how="anti", nulls_equal=True)
    return {"came": len(came), "went": len(went)}


def _rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Landed rows without where they lay, ids as text."""
    return frame.drop("file", "row").with_columns(pl.col("sensor_id").cast(pl.String))


def changed_files(reader: Reader, recorded: set[tuple[str, str]]) -> tuple[list[Path], list[str]]:
    """Files whose name and digest are not in the recorded inventory, and recorded names that are gone or differ.

    Raises:
        InputError: a file cannot be read.
    """
    found = {file: (file.name, facts(file)[1]) for file in reader.files()}
    new = [file for file, known in found.items() if known not in recorded]
    return new, sorted({name for name, _ in recorded - set(found.values())})


def recorded_files(lake: Lake, stream: str) -> set[tuple[str, str]]:
    """Name and digest of the files in the newest inventory; empty if there is none."""
    if not lake.exists((stream, "raw_files"), None, FRAME):
        return set()
    return set(lake.read((stream, "raw_files"), None, FRAME).select("file", "digest").iter_rows())
