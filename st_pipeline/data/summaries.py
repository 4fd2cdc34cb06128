"""Small tables that say what a large one holds: the gate judges these, whatever the number of readings."""

from __future__ import annotations

from datetime import UTC

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import flag_column
from st_pipeline.data.quality import FLAGS
from st_pipeline.periods import Period

LANDED = [flag for flag in FLAGS if flag not in ("missing", "off_grid")]
FAULTY = ["out_of_range", "stuck", "spike"]


def raw_summary(raw: pl.DataFrame, config: StreamConfig, period: Period) -> pl.DataFrame:
    """One row per sensor of the raw readings (a null sensor_id is one too).

    Columns: sensor_id, rows, repeated (share of rows whose time was landed before), empty (share of rows without a
    target), outside (rows whose label is not in the period), first, last.
    """
    zoned = getattr(raw.schema["timestamp"], "time_zone", None)
    bounds = [moment.astimezone(UTC) if zoned else moment.replace(tzinfo=None) for moment in (period.start, period.end)]
    begins = pl.col("timestamp") - config.label_lag
    target = config.variable_names[0]
    return (
        raw.group_by("sensor_id")
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            (1 - pl.col("timestamp").n_unique() / pl.len()).alias("repeated"),
            pl.col(target).is_null().mean().alias("empty"),
            ((begins < bounds[0]) | (begins >= bounds[1])).sum().cast(pl.Int64).alias("outside"),
            pl.col("timestamp").min().alias("first"),
            pl.col("timestamp").max().alias("last"),
        )
        .with_columns(pl.col("sensor_id").cast(pl.String))
        .sort("sensor_id")
    )


def until_landed(readings: pl.DataFrame, config: StreamConfig) -> pl.DataFrame:
    """Clean readings up to the last step of which anything was landed: what a running period can have by now."""
    landed = pl.any_horizontal(pl.col(flag_column(name)).is_in(LANDED) for name in config.variable_names)
    last = readings.filter(landed)["timestamp"].max()
    return readings if last is None else readings.filter(pl.col("timestamp") <= last)


def sensor_summary(readings: pl.DataFrame, sensors: pl.DataFrame, config: StreamConfig) -> pl.DataFrame:
    """One row per sensor and variable of the clean readings.

    Columns: sensor_id, variable, cells, missing, faulty (share of landed cells that are out of range, stuck or a
    spike), out_of_range (share), duplicates (rows that stand for no cell), lowest, highest (of observed cells), known.
    """
    return pl.concat([_of_variable(readings, name) for name in config.variable_names]).with_columns(
        pl.col("sensor_id").is_in(sensors["sensor_id"].unique().implode()).alias("known")
        if len(sensors)
        else pl.lit(True).alias("known")
    )


def _of_variable(readings: pl.DataFrame, name: str) -> pl.DataFrame:
    flag, first = pl.col(flag_column(name)), pl.col("copy") == 0
    landed = (first & flag.is_in(LANDED)).sum()
    observed = pl.col(name).filter(first & (flag == "observed"))
    return (
        readings.group_by("sensor_id")
        .agg(
            pl.lit(name).alias("variable"),
            first.sum().cast(pl.Int64).alias("cells"),
            ((first & (flag == "missing")).sum() / first.sum()).alias("missing"),
            ((first & flag.is_in(FAULTY)).sum() / landed).fill_nan(0.0).alias("faulty"),
            ((first & (flag == "out_of_range")).sum() / landed).fill_nan(0.0).alias("out_of_range"),
            (~first).sum().cast(pl.Int64).alias("duplicates"),
            observed.min().cast(pl.Float64).alias("lowest"),
            observed.max().cast(pl.Float64).alias("highest"),
        )
        .with_columns(pl.col("sensor_id").cast(pl.String))
        .sort("sensor_id")
    )


def network_summary(readings: pl.DataFrame, config: StreamConfig) -> pl.DataFrame:
    """One row: sensors, rows, unique (each sensor, time and copy once), missing, faulty, out_of_range of the target."""
    name = config.variable_names[0]
    flag, first = pl.col(flag_column(name)), pl.col("copy") == 0
    landed = (first & flag.is_in(LANDED)).sum()
    return readings.select(
        pl.col("sensor_id").n_unique().cast(pl.Int64).alias("sensors"),
        pl.len().cast(pl.Int64).alias("rows"),
        pl.lit(_unique(readings)).alias("unique"),
        ((first & (flag == "missing")).sum() / first.sum()).alias("missing"),
        ((first & flag.is_in(FAULTY)).sum() / landed).fill_nan(0.0).alias("faulty"),
        ((first & (flag == "out_of_range")).sum() / landed).fill_nan(0.0).alias("out_of_range"),
    )


def _unique(readings: pl.DataFrame) -> bool:
    """Whether sensor, time and copy name each row once; seen at a glance where the rows are in that order."""
    changes = pl.col("sensor_id").cast(pl.Categorical).to_physical()
    at, copy = pl.col("timestamp"), pl.col("copy")
    same = (changes == changes.shift()).fill_null(False)
    later = (at > at.shift()) | ((at == at.shift()) & (copy > copy.shift()))
    in_order, runs = readings.select(in_order=(~same | later).all(), runs=(~same).sum()).row(0)
    if in_order and runs == readings["sensor_id"].n_unique():
        return True
    return readings.select("sensor_id", "timestamp", "copy").n_unique() == len(readings)
