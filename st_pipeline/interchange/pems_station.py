"""Five-minute station files of Caltrans PeMS, with the metadata of its stations.

Layout (PeMS Data Clearinghouse, "Station 5-Minute" and "Station Metadata"):
`d<NN>_text_station_5min_<yyyy_mm_dd>.txt[.gz]` is CSV without a header: timestamp (MM/DD/YYYY HH:MM:SS), station,
district, freeway, direction, lane type, length, samples, percent observed, total flow, average occupancy, average
speed, then five columns a lane; `d<NN>_text_meta_<yyyy_mm_dd>.txt` is a table with tabs: ID, ..., Latitude,
Longitude, ..., Name. Values of which PeMS observed nothing are imputed by it, and left out unless `imputed` is
`keep`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.files import files_of
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED
from st_pipeline.interchange.parts.long_draft import Facts, long_draft
from st_pipeline.interchange.parts.long_frames import span_of
from st_pipeline.interchange.parts.tables import need, numbers, stamps, texts
from st_pipeline.readers.parts.columns import TimeFormat
from st_pipeline.registry import IMPORTERS

COLUMNS = {"column_2": "sensor_id", "column_6": "lanes", "column_9": "observed"}
VALUES = {"column_10": "flow", "column_11": "occupancy", "column_12": "speed"}
RULES: dict[str, dict[str, object]] = {
    "flow": {"unit": "vehicles/5min", "minimum": 0},
    "occupancy": {"minimum": 0, "maximum": 1},
    "speed": {"unit": "mph", "minimum": 0},
}


@IMPORTERS.register
def pems_station(path: Path, *, lanes: str = "ML", imputed: Literal["drop", "keep"] = "drop") -> Draft:
    """Flow, occupancy and speed of the stations of one lane type (`ML`: mainline; `all` for every type)."""
    files = files_of(path, "*station_5min_*.txt", "*station_5min_*.txt.gz")
    if not files:
        raise InputError(f"{path}: there is no d<NN>_text_station_5min_<yyyy_mm_dd>.txt[.gz]")
    files.sort(key=lambda file: file.name[-17:])
    head, tail = (_readings(file, lanes, imputed) for file in (files[0], files[-1]))
    first, _, step = span_of(head, str(files[0]))
    _, last, _ = span_of(tail, str(files[-1]))
    sensors = _stations(path)
    facts = Facts(
        f"PeMS stations, {len(files)} days from {files[0].name.split('_text')[0]}",
        RULES,
        first,
        last,
        step,
        timezone="America/Los_Angeles",
        guessed={"timezone": "guessed: PeMS writes the local time of California"},
    )
    frames: Iterator[pl.DataFrame] = (
        _readings(file, lanes, imputed).with_columns(pl.col("sensor_id").cast(pl.Categorical())) for file in files
    )
    return long_draft(facts, frames, sensors=sensors, graph=POSITIONED if sensors is not None else ALONE)


def _readings(file: Path, lanes: str, imputed: str) -> pl.DataFrame:
    """sensor_id, timestamp, flow, occupancy and speed of one day."""
    frame = texts(file, header=False)
    if len(frame.columns) < 12:
        raise InputError(f"{file}: found {len(frame.columns)} columns, expected at least the 12 of a station file")
    times = stamps(frame, "column_1", file, TimeFormat("%m/%d/%Y %H:%M:%S"))
    parts = numbers(frame, ["column_9", *VALUES], file)
    read = frame.select(pl.col(name).str.strip_chars().alias(ours) for name, ours in list(COLUMNS.items())[:2])
    table = pl.concat([read, times.to_frame(), parts.rename({"column_9": "observed", **VALUES})], how="horizontal")
    kept = table if lanes == "all" else table.filter(pl.col("lanes") == lanes)
    if not len(kept):
        known = ", ".join(sorted(table["lanes"].drop_nulls().unique().to_list()))
        raise InputError(f"{file}: there is no station of lane type {lanes!r}; found {known}, or all")
    if imputed == "drop":
        guessed = pl.col("observed").fill_null(0) <= 0
        kept = kept.with_columns(pl.when(~guessed).then(name).alias(name) for name in VALUES.values())
    return kept.select("sensor_id", "timestamp", *VALUES.values())


def _stations(path: Path) -> pl.DataFrame | None:
    """Positions and names, one row for each station and each file in which its position is another."""
    files = files_of(path, "*text_meta_*.txt", "*text_meta_*.txt.gz")
    if not files:
        return None
    tables = []
    for file in sorted(files, key=lambda file: file.name):
        frame = texts(file, delimiter="\t")
        need(frame, ("ID", "Latitude", "Longitude"), file)
        axes = numbers(frame, ["Latitude", "Longitude"], file).rename(
            {"Latitude": "latitude", "Longitude": "longitude"}
        )
        names = frame["Name"] if "Name" in frame.columns else pl.Series([None] * len(frame), dtype=pl.String)
        facts = [frame["ID"].str.strip_chars().alias("sensor_id"), names.alias("name")]
        tables.append(
            pl.DataFrame(facts).hstack(axes).with_columns(pl.lit(_date(file), dtype=pl.Date).alias("valid_from"))
        )
    return _changes(tables)


def _changes(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The first row of each station, without a date, and later ones that move it."""
    rows = pl.concat(tables).sort("sensor_id", "valid_from", nulls_last=False)
    first = pl.int_range(pl.len()).over("sensor_id") == 0
    moved = pl.any_horizontal(pl.col("latitude", "longitude").diff().over("sensor_id").abs() > 1e-9)
    return rows.with_columns(pl.when(~first).then("valid_from").alias("valid_from")).filter(
        first | moved.fill_null(False)
    )


def _date(file: Path) -> date | None:
    """The day in a file's name."""
    found = re.search(r"([0-9]{4})_([0-9]{2})_([0-9]{2})", file.name)
    try:
        return date(*(int(part) for part in found.groups())) if found else None
    except ValueError:
        raise InputError(
            f"{file}: there is no day such as in its name; expected d07_text_meta_2024_01_31.txt"
        ) from None
