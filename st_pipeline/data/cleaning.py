"""From rows as landed to a tidy table of one row per sensor and step, with a quality flag per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.data.clock import resolve, step_count, step_index, step_times
from st_pipeline.data.quality import DUPLICATE, FLAGS, OFF_GRID, flag_cells
from st_pipeline.periods import Period

FLAG = pl.Enum(list(FLAGS))
KEY = ["sensor_id", "step"]


def flag_column(variable: str) -> str:
    return f"{variable}_flag"


@dataclass(frozen=True)
class Rows:
    """Landed rows sorted into the one that stands for each cell and the extra ones."""

    chosen: pl.DataFrame  # KEY, variables, <variable>_conflict; unique by KEY
    duplicates: pl.DataFrame  # every further row of a cell
    strays: pl.DataFrame  # rows between steps, outside the period or in a skipped hour


def clean(raw: pl.DataFrame, config: StreamConfig, period: Period) -> pl.DataFrame:
    """Readings of one period: sensor_id, timestamp (UTC, interval start), copy, and per variable a value and a flag.

    Every sensor with a row has every step of the period; a cell without one is `missing`. `copy` 0 is the row that
    stands for its cell, further copies are rows that were landed and are not used. Values are never altered. The
    order of the raw rows does not matter. Rows without a sensor id stay in the raw readings only.
    """
    count = step_count(period, config.step)
    rows = _sort_out(raw.filter(pl.col("sensor_id").is_not_null()), config, period, count)
    ids = raw["sensor_id"].drop_nulls().unique().sort()
    times = step_times(period, config.step, count)
    grid = _grid(rows.chosen, ids, times, config)
    extra = [_extra(rows.duplicates, times, config, DUPLICATE, 1), _extra(rows.strays, times, config, OFF_GRID, 1001)]
    table = pl.concat([grid, *extra], how="vertical")
    return table.sort("sensor_id", "timestamp", "copy")


def _sort_out(raw: pl.DataFrame, config: StreamConfig, period: Period, count: int) -> Rows:
    index, near = step_index(period, config)
    rows = resolve(raw, config).with_columns(index.alias("step"), near.alias("near"))
    usable = pl.col("near") & ~pl.col("skipped") & pl.col("step").is_between(0, count - 1)
    on_grid = rows.filter(usable)
    several = pl.len().over(KEY) > 1
    names = config.variable_names
    single = on_grid.filter(~several).select(*KEY, *names, *(pl.lit(False).alias(f"{name}_conflict") for name in names))
    repeated = on_grid.filter(several)
    latest = repeated
    if "received" in rows.columns:
        latest = repeated.filter(pl.col("received").eq_missing(pl.col("received").max().over(KEY)))
    agreed = latest.group_by(KEY).agg(
        *(pl.col(name).drop_nulls().min() for name in names),
        *((pl.col(name).drop_nulls().n_unique() > 1).alias(f"{name}_conflict") for name in names),
    )
    by_value = [*(["received"] if "received" in rows.columns else []), *names]
    newest_first = [name == "received" for name in (*KEY, *by_value)]
    further = repeated.sort(*KEY, *by_value, descending=newest_first, nulls_last=True).filter(
        pl.int_range(pl.len()).over(KEY) > 0
    )
    strays = rows.filter(~usable).sort("sensor_id", "timestamp", *by_value, nulls_last=True)
    return Rows(pl.concat([single, agreed.select(single.columns)]), further, strays)


def _grid(chosen: pl.DataFrame, ids: pl.Series, times: pl.Series, config: StreamConfig) -> pl.DataFrame:
    """The complete table of sensors by steps, with flags."""
    shape = (len(ids), len(times))
    row = ids.search_sorted(chosen["sensor_id"]).to_numpy()
    cell = row.astype(np.int64) * shape[1] + chosen["step"].to_numpy()
    columns: dict[str, pl.Series] = {}
    for name in config.variable_names:
        dtype = chosen.schema[name]
        values = _scatter(chosen[name].to_numpy().astype(np.float64), cell, shape, fill=np.nan)
        conflict = _scatter(chosen[f"{name}_conflict"].to_numpy(), cell, shape, fill=False)
        flags = flag_cells(values, conflict, config.rules(name), config.step)
        columns[name] = pl.Series(name, values.ravel()).fill_nan(None).cast(dtype)
        columns[flag_column(name)] = pl.Series(flag_column(name), flags.ravel()).cat.to(FLAG)
    sensor = ids.gather(np.repeat(np.arange(shape[0], dtype=np.uint32), shape[1]))
    timestamp = times.gather(np.tile(np.arange(shape[1], dtype=np.uint32), shape[0]))
    return pl.DataFrame({"sensor_id": sensor, "timestamp": timestamp, **columns}).select(
        "sensor_id", "timestamp", pl.lit(0, dtype=pl.UInt32).alias("copy"), *columns
    )


def _scatter(values: NDArray[Any], cell: NDArray[np.int64], shape: tuple[int, int], fill: float | bool) -> NDArray[Any]:
    grid = np.full(shape[0] * shape[1], fill, dtype=values.dtype)
    grid[cell] = values
    return grid.reshape(shape)


def _extra(rows: pl.DataFrame, times: pl.Series, config: StreamConfig, flag: int, first: int) -> pl.DataFrame:
    """Rows that do not stand for a cell, numbered from `first` within their sensor and time."""
    at = pl.col("timestamp") if flag == OFF_GRID else pl.lit(times).gather(pl.col("step"))
    columns: list[pl.Expr] = []
    for name in config.variable_names:
        columns += [pl.col(name), pl.lit(FLAGS[flag]).cast(FLAG).alias(flag_column(name))]
    return rows.with_columns(at.cast(times.dtype).alias("timestamp")).select(
        "sensor_id",
        "timestamp",
        (pl.int_range(pl.len(), dtype=pl.UInt32).over("sensor_id", "timestamp") + first).alias("copy"),
        *columns,
    )


def flag_counts(readings: pl.DataFrame, variables: tuple[str, ...]) -> pl.DataFrame:
    """Cells by variable and flag: columns variable, flag, cells, share."""
    frames = [
        readings.group_by(pl.col(flag_column(name)).cast(pl.String).alias("flag"))
        .agg(pl.len().cast(pl.Int64).alias("cells"))
        .select(pl.lit(name).alias("variable"), "flag", "cells")
        .sort("cells", "flag", descending=[True, False])
        for name in variables
    ]
    return pl.concat(frames).with_columns((pl.col("cells") / pl.col("cells").sum().over("variable")).alias("share"))
