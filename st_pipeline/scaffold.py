"""A first stream file from somebody's tables, every guess marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError, closest
from st_pipeline.periods import Cadence
from st_pipeline.readers.parts.columns import TimeFormat, is_zoned, time
from st_pipeline.readers.parts.csv_table import CsvOptions
from st_pipeline.readers.parts.tables import ROW, open_table, table_columns

IDS = ("sensor_id", "id", "sensor", "station", "station_id", "site", "node", "detector", "meter")
TIMES = ("timestamp", "time", "datetime", "date_time", "date", "measured_at")
LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon", "lng", "long")
PLANAR = (("x", "y"), ("x_m", "y_m"), ("easting", "northing"))
SAMPLE = 200_000  # rows that the guesses are made from
CADENCES = {"year": 365, "half-year": 182, "quarter": 91, "month": 30, "week": 7}  # days
LEAST_STEPS = 400  # a period should have at least this many steps


@dataclass(frozen=True)
class Guess:
    """What the readings look like."""

    sensor_id: str
    timestamp: str
    values: tuple[str, ...]
    step: timedelta
    first: date
    last: date
    zoned: bool


def scaffold(name: str, readings: Path, sensors: Path | None) -> str:
    """The text of a stream file for tables that will lie beside it.

    Raises:
        InputError: a table cannot be read, or has no column that could be an id, a time or a value.
    """
    guess = guess_readings(readings)
    columns = {"sensor_id": guess.sensor_id, "timestamp": guess.timestamp}
    columns |= {_variable(column): column for column in guess.values}
    graph = "{recipe: none}  # guessed: no positions"
    if sensors is not None:
        positions = guess_positions(sensors, guess.sensor_id)
        columns |= positions
        if positions.keys() - {"sensor_id"}:
            graph = "{recipe: gaussian, threshold: 0.5}"
    shown = ", ".join(
        f"{ours}: {_quoted(theirs)}"
        for ours, theirs in columns.items()
        if ours != theirs or ours not in ("sensor_id", "timestamp")
    )
    every, start, end = _periods(guess)
    target = _variable(guess.values[0])
    lines = [
        f"name: {name}",
        'description: ""',
        "source:",
        f"  format: {'parquet' if readings.suffix.lower() in ('.parquet', '.pq') else 'csv'}",
        f"  readings: {_quoted(readings.name)}",
        *([f"  sensors: {_quoted(sensors.name)}"] if sensors else []),
        f"  columns: {{{shown}}}  # guessed: every other column is left out",
        "  interval: start  # guessed: a timestamp is the start of its interval; else end",
        f"timezone: UTC  # {'the clock people use' if guess.zoned else 'guessed: the clock of the timestamps'}",
        f"step: {_duration(guess.step)}  # guessed from the gaps between timestamps",
        f"periods: {{every: {every}, start: {start}, end: {end}}}  # guessed; without end it goes on as time passes",
        f"target: {target}  # guessed: the first column of numbers",
        "variables:",
        f"  {target}: {{}}  # e.g. {{unit: vehicles/h, minimum: 0, maximum: 8000, sentinels: [-1], stuck: 6h}}",
        f"graph: {graph}",
        "window: 12",
        "horizon: 12",
        "models:",
        "  - {name: eac, backbone: stgnn, prompt_pool: {rank: 6}, strategy: eac}",
        "  - name: eac_calendar",
        "    backbone: {name: stgnn, calendar: true, context: 8}",
        "    prompt_pool: {rank: 8}",
        "    strategy: eac",
        f"    seasonal: {_seasons(guess)}",
        "    training: {learning_rate: 0.003}",
        "  - {name: retrain, backbone: stgnn, strategy: retrain}",
        "champion: eac_calendar",
    ]
    return "\n".join(lines) + "\n"


def guess_readings(file: Path) -> Guess:
    """Columns, step and span of a long table."""
    frame = _sample(file)
    names = [name for name in frame.columns if name != ROW]
    sensor_id = _pick(names, IDS, file, "a sensor id")
    timestamp = _pick(names, TIMES, file, "a time")
    times, zoned = _times(frame, timestamp, file)
    values = tuple(name for name in names if name not in (sensor_id, timestamp) and _is_number(frame[name]))
    if not values:
        raise InputError(f"{file}: no column of numbers beside {sensor_id!r} and {timestamp!r}; expected at least one")
    gaps = frame.select(pl.col(sensor_id).alias("id"), times.alias("t")).unique().sort("id", "t")
    step = gaps.select(pl.col("t").diff().over("id").drop_nulls().mode().min()).item()
    if step is None or step <= timedelta(0):
        raise InputError(
            f"{file}: no sensor has two different times in the first {SAMPLE:,} rows; expected a table over time"
        )
    first, last = times.min(), times.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return Guess(sensor_id, timestamp, values, step, first.date(), last.date(), zoned)


def guess_positions(file: Path, sensor_id: str) -> dict[str, str]:
    """Columns of the sensor table: our name -> the file's."""
    names = [name for name in _sample(file).columns if name != ROW]
    lower = {name.lower(): name for name in names}
    found = {"sensor_id": sensor_id if sensor_id in names else _pick(names, IDS, file, "a sensor id")}
    if found["sensor_id"] != sensor_id:
        raise InputError(
            f"{file}: its ids are in {found['sensor_id']!r}, those of the readings in {sensor_id!r}; "
            "name both columns alike"
        )
    latitude = next((lower[name] for name in LATITUDES if name in lower), None)
    longitude = next((lower[name] for name in LONGITUDES if name in lower), None)
    if latitude and longitude:
        return found | {"latitude": latitude, "longitude": longitude}
    for x, y in PLANAR:
        if x in lower and y in lower:
            return found | {"x": lower[x], "y": lower[y]}
    return found


def _sample(file: Path) -> pl.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    if file.suffix.lower() not in {".csv", ".txt", ".tsv", ".parquet", ".pq", ".gz", ".zst"}:
        raise InputError(f"{file}: expected a .csv or .parquet table")
    columns = table_columns(file, CsvOptions())
    return next(open_table(file, {name: name for name in columns}, set(), CsvOptions())).head(SAMPLE).collect()


def _pick(names: Sequence[str], known: Sequence[str], file: Path, what: str) -> str:
    lower = {name.lower(): name for name in names}
    for candidate in known:
        if candidate in lower:
            return lower[candidate]
    raise InputError(f"{file}: no column looks like {what}; {closest(known[0], names)} Rename it to {known[0]!r}.")


def _times(frame: pl.DataFrame, name: str, file: Path) -> tuple[pl.Series, bool]:
    dtype = frame.schema[name]
    filled = frame[name].drop_nulls()
    zoned = bool(dtype == pl.String and len(filled) and is_zoned(filled[0], TimeFormat()))
    times = frame.select(time(name, dtype, TimeFormat(), zoned=zoned))[name]
    if times.null_count() > frame[name].null_count() or not len(times.drop_nulls()):
        found = frame.filter(times.is_null())[name].drop_nulls()
        shown = repr(found[0]) if len(found) else "nothing"
        raise InputError(f"{file}: {name}: found {shown}, expected times such as 2024-01-31 13:00")
    return times, zoned or getattr(times.dtype, "time_zone", None) is not None


def _is_number(column: pl.Series) -> bool:
    if column.dtype.is_numeric():
        return True
    filled = column.drop_nulls()
    return column.dtype == pl.String and len(filled) > 0 and filled.cast(pl.Float64, strict=False).null_count() == 0


def _periods(guess: Guess) -> tuple[str, date, date]:
    """The longest cadence that gives at least three periods of enough steps, and the boundaries around the data."""
    days = (guess.last - guess.first).days + 1
    fitting = [
        name
        for name, length in CADENCES.items()
        if days >= 3 * length and timedelta(days=length) / guess.step >= LEAST_STEPS
    ]
    every = fitting[0] if fitting else f"{max(1, days // 3)}d"
    cadence = Cadence.parse(every)
    months = cadence.months
    start = date(guess.first.year, (guess.first.month - 1) // months * months + 1, 1) if months else guess.first
    index = 1
    while cadence.start_of(start, index) <= guess.last:
        index += 1
    return every, start, cadence.start_of(start, index)


def _seasons(guess: Guess) -> str:
    """Lags of a day and a week, as far as the data reach back."""
    days = (guess.last - guess.first).days
    lags = [
        lag
        for lag, needed in (("1d", 6), ("7d", 42), ("14d", 84))
        if days >= needed and timedelta(days=1) / guess.step >= 12
    ]
    return f"[{', '.join(lags)}]"


def _variable(column: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in column).strip("_").lower() or "value"


def _quoted(text: str) -> str:
    plain = text.replace("_", "").replace("-", "").replace(".", "")
    return (
        text
        if plain.isalnum() and not text[0].isdigit()
        else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )


def _duration(step: timedelta) -> str:
    seconds = int(step.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
