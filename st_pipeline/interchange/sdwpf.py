"""SDWPF, the wind farm of KDD Cup 2022: 134 turbines every ten minutes, with the cup's rules for abnormal values.

Layout and rules (Zhou et al., "SDWPF", arXiv 2208.04360): a CSV with TurbID, Day (1, 2, ...), Tmstamp (HH:MM), Wspd,
Wdir, Etmp, Itmp, Ndir, Pab1, Pab2, Pab3, Prtv, Patv; a CSV with TurbID, x, y. A power is unknown where Patv <= 0 and
Wspd > 2.5, or a pitch angle is above 89; a row is abnormal where Ndir is outside of [-720, 720] or Wdir outside of
[-180, 180]; both count as missing. Other powers below 0 count as 0.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.files import beside, files_of
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED
from st_pipeline.interchange.parts.long_draft import Facts, long_draft
from st_pipeline.interchange.parts.long_frames import in_parts, rising_times, span_of
from st_pipeline.interchange.parts.options import as_start
from st_pipeline.interchange.parts.tables import need, numbers, sensor_table, texts
from st_pipeline.registry import IMPORTERS

VARIABLES = ("Patv", "Wspd", "Wdir", "Etmp", "Itmp", "Ndir", "Pab1", "Pab2", "Pab3", "Prtv")
START = datetime(2020, 5, 1)
RULES: dict[str, dict[str, object]] = {"Patv": {"unit": "kW", "minimum": 0}}


@IMPORTERS.register
def sdwpf(path: Path, *, start: str | None = None) -> Draft:
    """Active power and what the turbines say of themselves; `start` is the date of day 1."""
    found = [file for file in files_of(path, "*.csv") if "location" not in file.name.lower()]
    if len(found) != 1:
        raise InputError(f"{path}: found {len(found)} tables of readings, expected one such as wtbdata_245days.csv")
    file = found[0]
    readings = _readings(file, as_start(start) if start else START)
    ids = readings["sensor_id"].unique(maintain_order=True).to_list()
    where = beside(path, "*location*.csv")
    sensors = None
    if where:
        places = texts(where)
        axes = numbers(places, ["x", "y"], where)
        need(places, ("TurbID",), where)
        named = places.select(pl.col("TurbID").str.strip_chars().alias("sensor_id"))
        sensors = sensor_table(ids, pl.concat([named, axes], how="horizontal"))
    first, last, step = span_of(readings, str(file))
    guessed = {"timezone": "guessed: the clock of the timestamps"}
    guessed |= {} if start else {"start": "day 1 is taken for 2020-05-01: the archive has no dates"}
    facts = Facts(
        f"{len(ids)} wind turbines of SDWPF from {file.name}",
        {name: RULES.get(name, {}) for name in VARIABLES},
        first,
        last,
        step,
        guessed=guessed,
    )
    return long_draft(facts, in_parts(readings), sensors=sensors, graph=POSITIONED if sensors is not None else ALONE)


def _readings(file: Path, start: datetime) -> pl.DataFrame:
    """sensor_id, timestamp and the variables, by the cup's rules."""
    frame = texts(file)
    need(frame, ("TurbID", "Day", "Tmstamp", *VARIABLES), file)
    values = numbers(frame, VARIABLES, file)
    days = numbers(frame, ["Day"], file, least=1)["Day"]
    clock = frame["Tmstamp"].str.strip_chars().str.strptime(pl.Time, "%H:%M", strict=False)
    missing = clock.is_null() | days.is_null()
    if missing.any():
        row = int(missing.arg_true()[0])
        found = f"{frame['Day'][row]!r} {frame['Tmstamp'][row]!r}"
        raise InputError(f"{file}: data row {row + 1}: found {found}, expected a day and a time such as 1 and 00:10")
    minutes = (days - 1) * 1440 + clock.dt.hour().cast(pl.Float64) * 60 + clock.dt.minute().cast(pl.Float64)
    times = (minutes * 60_000).cast(pl.Int64).cast(pl.Duration("ms")) + pl.Series([start]).cast(pl.Datetime("ms"))
    ids = frame["TurbID"].str.strip_chars().alias("sensor_id")
    readings = pl.concat([pl.DataFrame([ids, times.alias("timestamp")]), values], how="horizontal")
    return rising_times(by_rules(readings), file)


def by_rules(readings: pl.DataFrame) -> pl.DataFrame:
    """The cup's rules: unknown and abnormal powers are null, other powers below 0 are 0, abnormal angles are null."""
    pitched = pl.any_horizontal(pl.col("Pab1", "Pab2", "Pab3") > 89)
    turned = (pl.col("Ndir").abs() > 720) | (pl.col("Wdir").abs() > 180)
    unknown = ((pl.col("Patv") <= 0) & (pl.col("Wspd") > 2.5)) | pitched | turned
    return readings.with_columns(
        pl.when(unknown.fill_null(False)).then(None).otherwise(pl.col("Patv").clip(lower_bound=0)).alias("Patv"),
        pl.when(pl.col("Ndir").abs() <= 720).then("Ndir").alias("Ndir"),
        pl.when(pl.col("Wdir").abs() <= 180).then("Wdir").alias("Wdir"),
    )
