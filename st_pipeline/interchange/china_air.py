"""Hourly readings of China's air-quality stations, a file a day, as quotsoft.net/air mirrors them.

Layout (quotsoft.net/air): `china_sites_<yyyymmdd>.csv` with `date`, `hour`, `type` (AQI, PM2.5, PM2.5_24h, ...) and a
column for each station; a list of stations in CSV with their code, longitude and latitude (in Chinese, as `CODES`,
`LONGITUDES`, `LATITUDES` below). Hours are those of Beijing. Running means (`_24h`, `_8h`) and the index are left out.
EAC names these files as the source of its Air-Stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.files import beside, files_of
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED
from st_pipeline.interchange.parts.long_draft import Facts, long_draft
from st_pipeline.interchange.parts.tables import need, numbers, sensor_table, texts
from st_pipeline.registry import IMPORTERS

TYPES = {"PM2.5": "pm25", "PM10": "pm10", "SO2": "so2", "NO2": "no2", "O3": "o3", "CO": "co"}
FIXED = ("date", "hour", "type")
CODES, LONGITUDES, LATITUDES = (
    ("监测点编码", "code", "station"),
    ("经度", "longitude", "lon"),
    ("纬度", "latitude", "lat"),
)
DAYS = 31  # files in one table of readings


@IMPORTERS.register
def china_air(path: Path) -> Draft:
    """PM2.5 and, where the files have them, PM10, SO2, NO2, O3 and CO."""
    files = files_of(path, "china_sites_*.csv")
    if not files:
        raise InputError(f"{path}: there is no china_sites_<yyyymmdd>.csv")
    files.sort(key=lambda file: file.name)
    heads = [texts(file) for file in (files[0], files[-1])]
    names = [ours for theirs, ours in TYPES.items() if any(theirs in head["type"].str.strip_chars() for head in heads)]
    if not names:
        raise InputError(f"{files[0]}: type: found none of {', '.join(TYPES)}")
    first, last = _day(files[0])["timestamp"].min(), _day(files[-1])["timestamp"].max()
    stations = beside(path, "*站点*.csv", "*station*.csv")
    sensors = _stations(stations, files) if stations else None
    facts = Facts(
        f"Air quality of Chinese stations, {len(files)} days",
        {name: {"unit": "mg/m3" if name == "co" else "ug/m3", "minimum": 0} for name in names},
        first,  # type: ignore[arg-type]
        last,  # type: ignore[arg-type]
        timedelta(hours=1),
        timezone="Asia/Shanghai",
        guessed={"timezone": "guessed: the hours are those of Beijing"},
    )
    graph = POSITIONED if sensors is not None else ALONE
    return long_draft(facts, _frames(files, names), sensors=sensors, graph=graph)


def _frames(files: Sequence[Path], names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Long tables of some days each."""
    for first in range(0, len(files), DAYS):
        days = [_day(file) for file in files[first : first + DAYS]]
        empty = [pl.lit(None, dtype=pl.Float64).alias(name) for name in names]
        wide = [day.with_columns(part for part in empty if part.meta.output_name() not in day.columns) for day in days]
        yield pl.concat([day.select("sensor_id", "timestamp", *names) for day in wide])


def _day(file: Path) -> pl.DataFrame:
    """sensor_id, timestamp and the types of one file, a row for each station and hour with some value."""
    frame = texts(file)
    need(frame, FIXED, file)
    stations = [name for name in frame.columns if name not in FIXED and name]
    if not stations:
        raise InputError(f"{file}: no column beside {', '.join(FIXED)}, expected one for each station")
    hours = numbers(frame, ["hour"], file, least=0)["hour"].cast(pl.Int64)
    days = frame["date"].str.strip_chars().str.strptime(pl.Date, "%Y%m%d", strict=False)
    bad = days.is_null() | hours.is_null() | (hours > 23)
    if bad.any():
        row = int(bad.arg_true()[0])
        found = f"{frame['date'][row]!r} and {frame['hour'][row]!r}"
        raise InputError(
            f"{file}: data row {row + 1}: found date and hour {found}, expected such as 20200131 and 0 to 23"
        )
    kinds = frame["type"].str.strip_chars().alias("type")
    times = (days.cast(pl.Datetime("ms")) + (hours * 3_600_000).cast(pl.Duration("ms"))).alias("timestamp")
    wide = pl.concat([pl.DataFrame([times, kinds]), numbers(frame, stations, file)], how="horizontal")
    wide = wide.filter(pl.col("type").is_in(list(TYPES))).with_columns(pl.col("type").replace(TYPES))
    if wide.select(pl.struct("timestamp", "type").is_duplicated().any()).item():
        raise InputError(f"{file}: an hour has a type twice; expected each once")
    long = wide.unpivot(index=["timestamp", "type"], variable_name="sensor_id", value_name="value").drop_nulls("value")
    return long.pivot("type", index=["sensor_id", "timestamp"], values="value").sort("timestamp", "sensor_id")


def _stations(file: Path, files: Sequence[Path]) -> pl.DataFrame:
    """Every station of the files, with its position where the list has one."""
    frame = texts(file)
    picked = []
    for names in (CODES, LONGITUDES, LATITUDES):
        column = next((name for name in frame.columns if name.lower() in names), None)
        if column is None:
            raise InputError(f"{file}: there is no column {names[0]} ({names[1]}); found {frame.columns}")
        picked.append(column)
    axes = numbers(frame, picked[1:], file).rename(dict(zip(picked[1:], ("longitude", "latitude"), strict=True)))
    listed = frame.select(pl.col(picked[0]).str.strip_chars().alias("sensor_id"))
    seen: dict[str, None] = {}
    for day in files:
        seen |= dict.fromkeys(name for name in texts(day).columns if name not in FIXED)
    return sensor_table(list(seen), pl.concat([listed, axes], how="horizontal"))
