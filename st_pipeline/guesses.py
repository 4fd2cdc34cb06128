"""What somebody's tables look like: their columns, step and span, guessed from the first rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError, closest
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
TABLES = {".csv", ".txt", ".tsv", ".parquet", ".pq", ".gz", ".zst"}
MOST_HEADER = 100_000  # bytes


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


def guess_matrix(file: Path) -> tuple[str, tuple[int, ...]]:
    """The array of an archive that is taken for the readings, time by sensor, and its shape."""
    _require(file)
    return largest_array(file)


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
