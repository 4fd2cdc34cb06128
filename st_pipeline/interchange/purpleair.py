"""PurpleAir's downloads: one CSV for each sensor, at its own irregular times.

Layout (PurpleAir's map download, 2018 to 2022, and its Data Download Tool since): files called
`<name> (outside) (<lat> <lon>) Primary Real Time <from> <to>.csv` with `created_at` and `PM2.5_ATM_ug/m3`, ...; or
`<sensor index> <from> <to> <average>.csv` with `time_stamp` and `pm2.5_atm`, ...; and optionally a list of sensors with
`sensor_index`, `latitude`, `longitude`. Files of channel B and of secondary data are left out. Readings of a step are
averaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.fields import as_text
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.files import files_of
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED
from st_pipeline.interchange.parts.long_draft import Facts, long_draft
from st_pipeline.interchange.parts.options import as_step
from st_pipeline.interchange.parts.tables import numbers, sensor_table, stamps, texts
from st_pipeline.readers.parts.columns import TimeFormat
from st_pipeline.registry import IMPORTERS

TIMES = ("created_at", "time_stamp")
COLUMNS = {
    "pm25": ("pm2.5_atm_ug/m3", "pm2.5_atm", "pm2.5_alt", "pm2.5_cf1_ug/m3", "pm2.5_cf_1"),
    "temperature": ("temperature_f", "temperature"),
    "humidity": ("humidity_%", "humidity"),
}
SIZES = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440))
SKIPPED = re.compile(r" B \(|\bSecondary\b", re.IGNORECASE)
PLACE = re.compile(r"\((-?[0-9.]+) (-?[0-9.]+)\)")


@IMPORTERS.register
def purpleair(path: Path, *, step: str | None = None) -> Draft:
    """PM2.5 and, where all have them, temperature and humidity; the step is the usual time between two readings."""
    files = [file for file in files_of(path, "*.csv") if not SKIPPED.search(file.name)]
    lists = [file for file in files if "sensor" in file.name.lower() and _is_list(file)]
    files = [file for file in files if file not in lists]
    if not files:
        raise InputError(f"{path}: there is no CSV of a sensor; expected one for each")
    ids = {file: _id(file) for file in files}
    first = texts(files[0])
    names = [name for name, columns in COLUMNS.items() if _column(first, columns) is not None]
    if not names or names[0] != "pm25":
        raise InputError(f"{files[0]}: there is no column of PM2.5; expected one of {', '.join(COLUMNS['pm25'])}")
    spans = [_span(file) for file in files]
    gaps = sorted(gap for _, _, gap in spans)
    size = as_step(step) if step else next((size for size in SIZES if size >= gaps[len(gaps) // 2]), SIZES[-1])
    sensors, placed = _sensors(lists, files, ids)
    guessed = {"timezone": "guessed: PurpleAir writes UTC"}
    facts = Facts(
        f"{len(set(ids.values()))} PurpleAir sensors, means of {as_text(size)}",
        {name: {"minimum": 0} if name != "temperature" else {} for name in names},
        min(start for start, _, _ in spans),
        max(end for _, end, _ in spans),
        size,
        guessed=guessed | ({} if step else {"step": "guessed from the usual time between two readings"}),
    )
    frames = _frames(ids, names, size)
    return long_draft(facts, frames, sensors=sensors, graph=POSITIONED if placed else ALONE)


def _is_list(file: Path) -> bool:
    """Whether a file is a list of sensors."""
    return {"sensor_index", "latitude", "longitude"} <= set(texts(file).columns)


def _id(file: Path) -> str:
    """The index that begins a file's name, or the name before its first bracket."""
    name = file.stem.split(" (")[0].strip()
    if not (found := re.match(r"[0-9]+(?= )", file.stem)):
        return name
    return found[0]


def _column(frame: pl.DataFrame, names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in frame.columns}
    return next((lower[name] for name in names if name in lower), None)


def _stamps(frame: pl.DataFrame, file: Path) -> pl.Series:
    """Times in UTC: ISO, `2020-01-31 13:00:00 UTC`, or seconds since 1970."""
    column = next((name for name in TIMES if name in frame.columns), None)
    if column is None:
        raise InputError(f"{file}: there is no column {TIMES[0]!r} nor {TIMES[1]!r}; expected a file of one sensor")
    digits = frame[column].str.contains(r"^\s*[0-9]{9,11}\s*$").all()
    return stamps(frame, column, file, TimeFormat(unit="s") if digits else TimeFormat())


def _span(file: Path) -> tuple[datetime, datetime, timedelta]:
    """First and last time, and the median time between two readings."""
    times = _stamps(texts(file), file).unique().sort()
    gap = times.diff().drop_nulls().median()
    first, last = times[0], times[-1]
    if not isinstance(gap, timedelta) or not isinstance(first, datetime) or not isinstance(last, datetime):
        raise InputError(f"{file}: has one time only; expected readings over time")
    return first, last, gap


def _frames(ids: dict[Path, str], names: Sequence[str], size: timedelta) -> Iterator[pl.DataFrame]:
    """Means of each step, a table for each sensor; its files may overlap."""
    for name in dict.fromkeys(ids.values()):
        parts = []
        for file in (file for file, owner in ids.items() if owner == name):
            frame = texts(file)
            columns = [_column(frame, COLUMNS[variable]) for variable in names]
            if None in columns:
                absent = names[columns.index(None)]
                raise InputError(f"{file}: there is no column of {absent}, which other files have")
            found = [column for column in columns if column is not None]
            values = numbers(frame, found, file).rename(dict(zip(found, names, strict=True)))
            parts.append(values.with_columns(_stamps(frame, file)))
        readings = pl.concat(parts).unique("timestamp", keep="first").sort("timestamp")
        means = readings.group_by_dynamic("timestamp", every=as_text(size).replace("min", "m")).agg(
            pl.col(names).mean()
        )
        yield means.select(pl.lit(name, dtype=pl.Categorical()).alias("sensor_id"), "timestamp", *names)


def _sensors(lists: Sequence[Path], files: Sequence[Path], ids: dict[Path, str]) -> tuple[pl.DataFrame, bool]:
    """Every sensor, with the position of a list or of its file's name; and whether there are any."""
    schema = {"sensor_id": pl.String, "latitude": pl.Float64, "longitude": pl.Float64}
    rows = []
    for file in lists:
        frame = texts(file)
        axes = numbers(frame, ["latitude", "longitude"], file)
        rows.append(frame.select(pl.col("sensor_index").str.strip_chars().alias("sensor_id")).hstack(axes))
    for file in files:
        if place := PLACE.search(file.name):
            latitude, longitude = (float(part) for part in place.groups())
            row = {"sensor_id": [ids[file]], "latitude": [latitude], "longitude": [longitude]}
            rows.append(pl.DataFrame(row, schema=schema))
    facts = pl.concat(rows) if rows else pl.DataFrame(schema=schema)
    table = sensor_table(list(dict.fromkeys(ids.values())), facts)
    return table, bool(table["latitude"].is_not_null().any())
