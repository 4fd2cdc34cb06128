"""Long tables of readings: order, span and step, and pieces of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.long_draft import ROWS


def rising_times(readings: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The readings, if the times of each sensor rise.

    Raises:
        InputError: a time of a sensor is not after the one before it.
    """
    falls = readings.select(pl.col("timestamp").diff().over("sensor_id") <= timedelta(0)).to_series().fill_null(False)
    if falls.any():
        row = int(falls.arg_true()[0])
        name, found = readings["sensor_id"][row], readings["timestamp"][row]
        raise InputError(f"{file}: data row {row + 1}: the time {found} of {name!r} is not after the one before it")
    return readings


def span_of(readings: pl.DataFrame, where: str) -> tuple[datetime, datetime, timedelta]:
    """First and last time, and the most frequent time between two readings of a sensor.

    Raises:
        InputError: no sensor has two different times.
    """
    ordered = readings.select("sensor_id", "timestamp").unique().sort("sensor_id", "timestamp")
    gaps = ordered.select(pl.col("timestamp").diff().over("sensor_id").drop_nulls().mode().min()).item()
    first, last = readings["timestamp"].min(), readings["timestamp"].max()
    if gaps is None or not isinstance(first, datetime) or not isinstance(last, datetime):
        raise InputError(f"{where}: no sensor has two different times; expected readings over time")
    return first, last, gaps


def in_parts(readings: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The readings in order of time, some rows at a time, ids as categories."""
    ordered = readings.sort("timestamp", "sensor_id").with_columns(pl.col("sensor_id").cast(pl.Categorical()))
    yield from ordered.iter_slices(ROWS)
