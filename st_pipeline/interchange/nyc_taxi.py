"""Trips of New York City's taxis as pick-ups and drop-offs a zone and half hour.

Layout (NYC Taxi and Limousine Commission, "TLC Trip Record Data"): `yellow_tripdata_<yyyy-mm>.parquet` (or green,
fhv, fhvhv), a row for each trip with the times and the zones (`PULocationID`, `DOLocationID`) of its ends;
`taxi_zone_lookup.csv` has LocationID, Borough, Zone. Zones 264 and 265 are unknown places. A half hour without a trip
is 0; ends outside of the files' months are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array
from st_pipeline.interchange.parts.files import beside, files_of
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, regular_times
from st_pipeline.interchange.parts.options import as_step
from st_pipeline.interchange.parts.tables import need, numbers, sensor_table, texts
from st_pipeline.readers.parts.parquet_table import parquet_columns, parquet_parts
from st_pipeline.readers.parts.tables import told
from st_pipeline.registry import IMPORTERS

ENDS = {
    "pickups": (("tpep_pickup_datetime", "lpep_pickup_datetime", "pickup_datetime"), ("PULocationID", "PUlocationID")),
    "dropoffs": (
        ("tpep_dropoff_datetime", "lpep_dropoff_datetime", "dropoff_datetime", "dropOff_datetime"),
        ("DOLocationID", "DOlocationID"),
    ),
}
UNKNOWN = (264, 265)


@IMPORTERS.register
def nyc_taxi(path: Path, *, step: str = "30min") -> Draft:
    """Counts by zone; positions of zones where a CSV beside the trips has LocationID, latitude and longitude."""
    files = files_of(path, "*tripdata_*.parquet")
    if not files:
        raise InputError(f"{path}: there is no *_tripdata_<yyyy-mm>.parquet")
    size, months = as_step(step), [_month(file) for file in files]
    first, last = min(months), _next(max(months))
    if absent := [month for month in _months(first, last) if month not in months]:
        raise InputError(
            f"{path}: there is no file of {absent[0]:%Y-%m}, but of months before and after; "
            "expected months without a gap"
        )
    times = regular_times(first, size, (last - first) // size)
    counts = _counts(files, times, size)
    zones = sorted(counts["zone"].unique().to_list())
    if not zones:
        raise InputError(f"{path}: no trip begins or ends in a known zone between {first.date()} and {last.date()}")
    values = _grid(counts, zones, len(times))
    sensors, graph = _zones(path, zones)
    facts = Facts(
        f"Trips of {files[0].name.split('_')[0]} cabs in {len(zones)} zones of New York",
        {name: {"unit": f"trips/{step}", "minimum": 0} for name in ENDS},
        first,
        as_datetime(times[-1]),
        size,
        timezone="America/New_York",
        guessed={"timezone": "guessed: the meters write local time"},
    )
    grid = Grid(values, tuple(map(str, zones)), tuple(ENDS), times)
    return long_draft(facts, grid.frames(), sensors=sensors, graph=graph)


def _month(file: Path) -> datetime:
    found = re.search(r"([0-9]{4})-([0-9]{2})", file.name)
    if not found or not 1 <= int(found[2]) <= 12:
        raise InputError(f"{file}: there is no month in its name; expected such as yellow_tripdata_2019-01.parquet")
    return datetime(int(found[1]), int(found[2]), 1)


def _next(month: datetime) -> datetime:
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1)


def _months(first: datetime, last: datetime) -> Iterator[datetime]:
    while first < last:
        yield first
        first = _next(first)


def _counts(files: Sequence[Path], times: Array, size: timedelta) -> pl.DataFrame:
    """kind, zone, slot and the number of trips, of known zones and the times of the grid."""
    milliseconds, start = size // timedelta(milliseconds=1), pl.lit(as_datetime(times[0]))
    found = []
    for file in files:
        with told(file):
            columns = _columns(file)
            for _, part in parquet_parts(file, columns):
                for kind in ENDS:
                    moment = part[f"{kind}_time"]
                    if moment.dtype != pl.Datetime("ms"):
                        raise InputError(f"{file}: {columns[f'{kind}_time']} holds {moment.dtype}, expected times")
                    slot = (pl.col(f"{kind}_time") - start).dt.total_milliseconds() // milliseconds
                    zone = pl.col(f"{kind}_zone").cast(pl.Int64, strict=False)
                    ends = part.select(slot.alias("slot"), zone.alias("zone"), pl.lit(kind).alias("kind"))
                    inside = pl.col("slot").is_between(0, len(times) - 1) & ~pl.col("zone").is_in(UNKNOWN)
                    found.append(ends.filter(inside).group_by("kind", "zone", "slot").len())
    return pl.concat(found).group_by("kind", "zone", "slot").agg(pl.col("len").sum())


def _columns(file: Path) -> dict[str, str]:
    """Our names of the four columns -> the file's."""
    known, chosen = parquet_columns(file), {}
    for kind, candidates in ENDS.items():
        for what, names in zip(("time", "zone"), candidates, strict=True):
            column = next((name for name in names if name in known), None)
            if column is None:
                raise InputError(f"{file}: there is no column {names[0]!r}; expected a file of trips with zones")
            chosen[f"{kind}_{what}"] = column
    return chosen


def _grid(counts: pl.DataFrame, zones: Sequence[int], steps: int) -> Array:
    """(L, N, 2) of counts."""
    values = np.zeros((steps, len(zones), len(ENDS)), dtype=np.float32)
    place = np.searchsorted(np.array(zones), counts["zone"].to_numpy())
    kinds = counts["kind"].replace_strict({kind: channel for channel, kind in enumerate(ENDS)}).to_numpy()
    values[counts["slot"].to_numpy(), place, kinds] = counts["len"].to_numpy()
    return values


def _zones(path: Path, zones: Sequence[int]) -> tuple[pl.DataFrame | None, str]:
    """Names and positions of the zones, as far as a CSV has them."""
    file = beside(path, "*zone*.csv")
    if file is None:
        return None, ALONE
    frame = texts(file)
    need(frame, ("LocationID",), file)
    facts = frame.select(pl.col("LocationID").str.strip_chars().alias("sensor_id"))
    if "Zone" in frame.columns:
        facts = facts.with_columns(frame["Zone"].alias("name"))
    placed = {"latitude", "longitude"} <= set(frame.columns)
    if placed:
        facts = facts.hstack(numbers(frame, ["latitude", "longitude"], file))
    return sensor_table(list(map(str, zones)), facts), POSITIONED if placed else ALONE
