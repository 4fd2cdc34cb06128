"""From the cells of a period back to the rows they were landed in."""

from __future__ import annotations

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.clock import resolve, step_index
from st_pipeline.periods import Period

ROWS = {"step": pl.Int64, "file": pl.String, "row": pl.Int64}


def landed_rows(raw: pl.DataFrame, sensor: str, config: StreamConfig, period: Period) -> pl.DataFrame:
    """Every landed row of a sensor that lies on a step of the period: columns `ROWS`, in order of steps, files, rows.

    Args:
        raw: the period's raw readings.
    """
    own = raw.filter(pl.col("sensor_id").cast(pl.String) == sensor)
    if own.is_empty():
        return pl.DataFrame(schema=ROWS)
    own = resolve(own.with_columns(pl.col("sensor_id").cast(pl.Categorical)), config)
    step, there = step_index(own["timestamp"], period, config)
    placed = own.with_columns(pl.Series("step", step)).filter(pl.Series(there) & ~pl.col("skipped"))
    return placed.select(pl.col(name).cast(dtype) for name, dtype in ROWS.items()).sort(*ROWS)
