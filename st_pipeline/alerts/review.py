"""One look at a stream's results by all the rules."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl

from st_pipeline.alerts.book import Finding
from st_pipeline.alerts.rules import coverage, degradation, disk, no_forecast, nothing_arrived, silent_sensors
from st_pipeline.errors import InputError
from st_pipeline.readers.base import Reader
from st_pipeline.storage import FRAME, JSON, Lake, home
from st_pipeline.streams import Stream

REVIEWED = ("below_naive", "coverage", "nothing_arrived", "no_forecast", "silent_sensors", "disk_low")
NEWEST = 2  # periods whose scores are looked at


def review(stream: Stream, reader: Reader, lake: Lake, now: datetime | None = None) -> list[Finding]:
    """What the rules find in the results of a stream; a rule whose results are not there finds nothing."""
    moment = now or datetime.now(UTC)
    found = [*_of_scores(stream.name, lake), *_of_sensors(stream.name, lake)]
    if is_live(stream, moment):
        automation, longest = stream.config.automation, stream.config.calendar.cadence.longest
        patience = automation.quiet or 2 * longest
        if lake.exists((stream.name, "raw_files"), None, FRAME):
            found += nothing_arrived(stream.name, newest_file(reader), moment, patience)
        found += _of_forecasts(stream, lake, moment)
    return found


def review_home() -> list[Finding]:
    """What the rules find that is no stream's."""
    return disk(home())


def is_live(stream: Stream, now: datetime) -> bool:
    """Whether readings are still expected: the calendar has no end, or the end is to come."""
    calendar = stream.config.calendar
    return calendar.end is None or calendar.end > now.date()


def newest_file(reader: Reader) -> datetime | None:
    """When the newest raw file was written; None if there is none."""
    try:
        times = [file.stat().st_mtime for file in reader.files()]
    except (InputError, OSError):  # no file is what this is about; a file that cannot be read is told elsewhere
        return None
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _of_scores(stream: str, lake: Lake) -> Iterable[Finding]:
    key = (stream, "forecast_scores")
    periods = lake.periods(key, FRAME.extension)[-NEWEST:]
    if not periods:
        return []
    scores = pl.concat([lake.read(key, period, FRAME) for period in periods])
    return [*degradation(stream, scores), *coverage(stream, scores)]


def _of_sensors(stream: str, lake: Lake) -> Iterable[Finding]:
    key = (stream, "node_set")
    periods = lake.periods(key, JSON.extension)
    if not periods:
        return []
    document = lake.read(key, periods[-1], JSON)
    nodes = set(document.get("ids", ()))
    return silent_sensors(stream, {name: n for name, n in document.get("silence", {}).items() if name in nodes})


def _of_forecasts(stream: Stream, lake: Lake, now: datetime) -> Iterable[Finding]:
    """Late forecasts, where the stream file says how often they are issued."""
    every = forecast_cadence(stream)
    periods = lake.periods((stream.name, "forecast"), FRAME.extension)
    if every is None or not periods:
        return []
    issued = lake.read((stream.name, "forecast"), periods[-1], FRAME)["issued_at"].max()
    if not isinstance(issued, datetime):
        return no_forecast(stream.name, None, now, every)
    return no_forecast(stream.name, issued if issued.tzinfo else issued.replace(tzinfo=UTC), now, every)


def forecast_cadence(stream: Stream) -> timedelta | None:
    """How often a stream issues forecasts by itself; None where neither a cadence nor schedules are asked for."""
    config = stream.config
    if config.forecasts.every is None and not config.automation.schedules:
        return None
    return config.forecasts.issue_every(config.step)
