"""A first stream file from somebody's tables, every guess marked."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import yaml

from st_pipeline.config import RESERVED
from st_pipeline.errors import InputError, closest
from st_pipeline.fields import check_variable
from st_pipeline.periods import Cadence
from st_pipeline.readers.npz import largest_array
from st_pipeline.readers.parts.columns import TimeFormat, is_zoned, time
from st_pipeline.readers.parts.csv_table import CsvOptions, open_bytes
from st_pipeline.readers.parts.tables import PARQUET, ROW, open_table, table_columns, told

IDS = ("sensor_id", "id", "sensor", "station", "station_id", "site", "node", "detector", "meter")
TIMES = ("timestamp", "time", "datetime", "date_time", "date", "measured_at")
LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon", "lng", "long")
PLANAR = (("x", "y"), ("x_m", "y_m"), ("easting", "northing"))
SAMPLE = 200_000  # rows that the guesses are made from
CADENCES = {"year": 365, "half-year": 182, "quarter": 91, "month": 30, "week": 7}  # days
TABLES = {".csv", ".txt", ".tsv", ".parquet", ".pq", ".gz", ".zst"}
MATRIX_STEP, MATRIX_START = timedelta(minutes=5), date(2024, 1, 1)
MODELS = (
    "window: 12",
    "horizon: 12",
    "models:",
    "  - {name: eac, backbone: stgnn, prompt_pool: {rank: 6}, strategy: eac}",
    "  - {name: retrain, backbone: stgnn, strategy: retrain}",
)
MOST_HEADER = 100_000  # bytes
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
    delimiter: str


def scaffold(name: str, readings: Path, sensors: Path | None) -> str:
    """The text of a stream file for tables that will lie beside it.

    Raises:
        InputError: a table cannot be read, or has no column that could be an id, a time or a value.
    """
    if readings.suffix.lower() == ".npz":
        if sensors is not None:
            raise InputError(f"{sensors}: the columns of a matrix have no ids; leave the sensors out")
        return _of_matrix(name, readings)
    guess = guess_readings(readings)
    variables = _variables(guess.values)
    columns = {"sensor_id": guess.sensor_id, "timestamp": guess.timestamp, **variables}
    graph = "{recipe: none}  # guessed: no positions"
    if sensors is not None:
        positions = guess_positions(sensors, guess.sensor_id)
        columns |= positions
        if positions.keys() - {"sensor_id"}:
            graph = "{recipe: gaussian, threshold: 0.5}"
    shown = ", ".join(
        f"{_quoted(ours)}: {_quoted(theirs)}"
        for ours, theirs in columns.items()
        if ours != theirs or ours not in ("sensor_id", "timestamp")
    )
    every, start, end = _periods(guess)
    target = next(iter(variables))
    lines = [
        f"name: {_quoted(name)}",
        'description: ""',
        "source:",
        f"  format: {'parquet' if readings.suffix.lower() in ('.parquet', '.pq') else 'csv'}",
        f"  readings: {_quoted(glob.escape(readings.name))}",
        *([f"  delimiter: {json.dumps(guess.delimiter)}"] if guess.delimiter != "," else []),
        *([f"  sensors: {_quoted(glob.escape(sensors.name))}"] if sensors else []),
        f"  columns: {{{shown}}}  # guessed: every other column is left out",
        "  interval: start  # guessed: a timestamp is the start of its interval; else end",
        f"timezone: UTC  # {'the clock people use' if guess.zoned else 'guessed: the clock of the timestamps'}",
        f"step: {_duration(guess.step)}  # guessed from the gaps between timestamps",
        f"periods: {{every: {every}, start: {start}, end: {end}}}  # guessed; without end it goes on as time passes",
        f"target: {_quoted(target)}  # guessed: the first column of numbers",
        "variables:",
        f"  {_quoted(target)}: {{}}  # e.g. {{unit: cars/h, minimum: 0, maximum: 8000, sentinels: [-1], stuck: 6h}}",
        f"graph: {graph}",
        *MODELS,
        "  - name: eac_calendar",
        "    backbone: {name: stgnn, calendar: true, context: 8}",
        "    prompt_pool: {rank: 8}",
        "    strategy: eac",
        f"    seasonal: {_seasons(guess)}",
        "    training: {learning_rate: 0.003}",
        "champion: eac_calendar",
    ]
    return "\n".join(lines) + "\n"


def _of_matrix(name: str, file: Path) -> str:
    """The text of a stream file for one matrix, time by sensor, whose calendar and step are not known."""
    _require(file)
    array, shape = largest_array(file)
    count = shape[2] if len(shape) == 3 else 1
    variables = [f"channel_{index}" for index in range(count)] if count > 1 else ["value"]
    days = -(-shape[0] * MATRIX_STEP // timedelta(days=1))
    end = MATRIX_START + timedelta(days=days)
    lines = [
        f"name: {_quoted(name)}",
        'description: ""',
        "source:",
        "  format: npz",
        f"  readings: {_quoted(glob.escape(file.name))}  # with more files, write {{period}} for the period's key",
        f"  array: {_quoted(array)}  # guessed: the largest",
        f"  columns: {{{', '.join(f'{variable}: {variable}' for variable in variables)}}}",
        f"step: {_duration(MATRIX_STEP)}  # guessed: a matrix has no times",
        f"periods: {{every: {days}d, start: {MATRIX_START}, end: {end}, nominal: true}}  # guessed",
        f"target: {variables[0]}  # guessed: the first channel",
        "graph: {recipe: none}  # for an adjacency, set source.adjacency and {recipe: edges}",
        *MODELS,
        "champion: eac",
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
    if timedelta(days=1) % step or step % timedelta(seconds=1):
        raise InputError(
            f"{file}: {timestamp}: the time between two readings is mostly {step}; expected one that divides a day, "
            "such as 5min, 15min or 1h"
        )
    first, last = times.min(), times.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return Guess(sensor_id, timestamp, values, step, first.date(), last.date(), zoned, guess_delimiter(file))


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


def _require(file: Path) -> None:
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")


def _sample(file: Path) -> pl.DataFrame:
    _require(file)
    if file.suffix.lower() not in TABLES:
        raise InputError(f"{file}: expected a .csv or .parquet table, or an .npz archive for the readings")
    csv = CsvOptions(delimiter=guess_delimiter(file))
    columns = {name: name for name in table_columns(file, csv) if name != ROW}
    with told(file, csv):
        return next(open_table(file, columns, set(), csv)).head(SAMPLE).collect()


def guess_delimiter(file: Path) -> str:
    """What separates most cells of the header; a comma for a file that is no CSV."""
    if file.suffix.lower() in PARQUET:
        return ","
    with told(file), open_bytes(file) as handle:
        header = handle.readline(MOST_HEADER).decode("utf-8", "replace")
    return max(",;\t|", key=header.count)


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
    bounds = [start]
    while bounds[-1] <= guess.last:
        bounds.append(cadence.start_of(start, len(bounds)))
    if len(bounds) > 2 and _is_sparse(bounds[0], bounds[1], guess):
        del bounds[0]
    if len(bounds) > 2 and _is_sparse(bounds[-2], bounds[-1], guess):
        del bounds[-1]
    return every, bounds[0], bounds[-1]


def _is_sparse(start: date, end: date, guess: Guess) -> bool:
    """Whether the data cover less than half of a period."""
    covered = min(end, guess.last + timedelta(days=1)) - max(start, guess.first)
    return covered < (end - start) / 2


def _seasons(guess: Guess) -> str:
    """Lags of a day and a week, as far as the data reach back."""
    days = (guess.last - guess.first).days
    lags = [
        lag
        for lag, needed in (("1d", 6), ("7d", 42), ("14d", 84))
        if days >= needed and timedelta(days=1) / guess.step >= 12
    ]
    return f"[{', '.join(lags)}]"


def _variables(columns: Sequence[str]) -> dict[str, str]:
    """Names that a variable may have -> the file's columns."""
    found: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"\W+", "_", column.lower()).strip("_")[:40]
        try:
            name = name if check_variable(name) not in {*RESERVED, *found} else f"{name}_value"
        except ValueError:
            name = f"value_{name}".strip("_")
        found[name if name not in found else f"{name}_{len(found) + 1}"] = column
    return found


def _quoted(text: str) -> str:
    """Text as YAML reads it back."""
    if re.fullmatch(r"[A-Za-z][\w.-]*", text) and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _duration(step: timedelta) -> str:
    seconds = int(step.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
