"""From rows as landed to a tidy table of one row per sensor and step, with a quality flag per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.data.clock import common_shift, resolve, shifted, step_count, step_index, step_times
from st_pipeline.data.quality import DUPLICATE, FLAGS, OFF_GRID, flag_sensors
from st_pipeline.data.units import in_stream_unit
from st_pipeline.periods import Period

FLAG = pl.Enum(list(FLAGS))
KEY = ["sensor_id", "step"]
SLICE = 1 << 20  # rows at a time


def flag_column(variable: str) -> str:
    return f"{variable}_flag"


@dataclass(frozen=True)
class Rows:
    """Landed rows sorted into the ones that stand for their cells and the others.

    A cell is a number: place of the sensor among the ids times the steps of the period, plus the step.
    """

    single: pl.DataFrame  # variables; the only row of its cell
    single_cell: NDArray[np.int64]
    agreed: pl.DataFrame  # variables and <variable>_conflict; what the several rows of a cell come to
    agreed_cell: NDArray[np.int64]
    duplicates: pl.DataFrame  # every further row of a cell
    strays: pl.DataFrame  # rows between steps, outside the period or in a skipped hour


def clean(raw: pl.DataFrame, config: StreamConfig, period: Period, sensors: pl.DataFrame | None = None) -> pl.DataFrame:
    """Readings of one period: sensor_id, timestamp (UTC, interval start), copy, and per variable a value and a flag.

    Every sensor with a row has every step of the period; a cell without one is `missing`. `copy` 0 is the row that
    stands for its cell, further copies are rows that were landed and are not used. Values are altered only where
    the sensor table gives a unit of their own (`units.in_stream_unit`), and then before any quality rule. The
    order of the raw rows does not matter. Rows without a sensor id stay in the raw readings only.
    """
    count = step_count(period, config.step)
    raw = raw if sensors is None else in_stream_unit(raw, sensors, config)
    named = raw.filter(pl.col("sensor_id").is_not_null()) if raw["sensor_id"].null_count() else raw
    named = named.with_columns(pl.col("sensor_id").cast(pl.Categorical))
    ids = distinct(named["sensor_id"])
    times = step_times(period, config.step, count)
    grids = _regular(named, ids, config, period, count)
    if grids is not None:
        return _grid(_flagged(grids, None, (len(ids), count), named.schema, config), ids, times)
    rows = _sort_out(named, ids, config, period, count)
    columns = _cells(rows, (len(ids), count), config)
    extra = pl.concat(
        [_extra(rows.duplicates, times, config, DUPLICATE, 1), _extra(rows.strays, times, config, OFF_GRID, 1001)]
    )
    del rows, named  # as large as what is made of them
    grid = _grid(columns, ids, times)
    return _insert(extra.sort("sensor_id", "timestamp", "copy"), grid, ids, times) if len(extra) else grid


def _regular(
    raw: pl.DataFrame, ids: pl.Series, config: StreamConfig, period: Period, count: int
) -> dict[str, NDArray[Any]] | None:
    """Values of all cells by variable, if each row has a cell of its own; None otherwise.

    Rows are looked at some at a time, which saves most of the memory and with it most of the time.
    """
    shift = common_shift(raw["timestamp"], config)
    if shift is None:
        return None
    taken = np.zeros(len(ids) * count, dtype=bool)
    grids = {name: np.full(len(taken), np.nan, dtype=_width(raw.schema[name])) for name in config.variable_names}
    for rows in raw.iter_slices(SLICE):
        cell, has_cell = _cell_of(shifted(rows, shift), ids, config, period, count)
        if not has_cell.all():
            return None
        taken[cell] = True
        for name, grid in grids.items():
            grid[cell] = rows[name].to_numpy()
    return grids if np.count_nonzero(taken) == len(raw) else None


def _sort_out(raw: pl.DataFrame, ids: pl.Series, config: StreamConfig, period: Period, count: int) -> Rows:
    rows = resolve(raw, config)
    names = config.variable_names
    by_value = [*(["received"] if "received" in rows.columns else []), *names]
    cell, has_cell = _cell_of(rows, ids, config, period, count)
    strays = rows.clear()
    if not has_cell.all():
        strays = rows.filter(~has_cell).sort("sensor_id", "timestamp", *by_value, nulls_last=True)
        rows, cell = rows.filter(has_cell), cell[has_cell]
    several = _shared(cell, len(ids) * count)
    repeated = rows.clear().with_columns(pl.Series("step", [], dtype=pl.Int64))
    if several is not None:
        repeated = rows.filter(several).with_columns(pl.Series("step", cell[several] % count))
        rows, cell = rows.filter(~several), cell[~several]
    agreed, duplicates = _agree(repeated, names, by_value)
    agreed_cell = places(agreed["sensor_id"], ids) * count + agreed["step"].to_numpy()
    return Rows(rows.select(names), cell, agreed, agreed_cell, duplicates, strays)


def _cell_of(
    rows: pl.DataFrame, ids: pl.Series, config: StreamConfig, period: Period, count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of resolved rows: the cell each belongs to, and whether there is that cell."""
    step, there = step_index(rows["timestamp"], period, config)
    there &= (step >= 0) & (step < count) & ~rows["skipped"].to_numpy()
    cell = places(rows["sensor_id"], ids)
    cell *= count
    cell += step
    return cell, there


def _shared(cell: NDArray[np.int64], cells: int) -> NDArray[np.bool_] | None:
    """Which rows share their cell with others; None if none does, which is found with little memory."""
    taken = np.zeros(cells, dtype=bool)
    taken[cell] = True
    return None if np.count_nonzero(taken) == len(cell) else np.bincount(cell, minlength=cells)[cell] > 1


def distinct(names: pl.Series) -> pl.Series:
    """The different names in order, as text."""
    codes = names.to_physical().to_numpy()
    known = np.flatnonzero(np.bincount(codes)) if len(codes) else codes
    at = np.zeros(len(known) and int(known[-1]) + 1, dtype=np.uint32)
    at[codes] = np.arange(len(codes), dtype=np.uint32)
    return names.gather(at[known]).cast(pl.String).sort()


def places(names: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
    """Place of each name among the ids, all of which are known."""
    codes = names.cast(pl.Categorical).to_physical()
    known = ids.cast(pl.Categorical).to_physical().to_numpy()
    place = np.zeros(int(known.max(initial=0)) + 1, dtype=np.int64)
    place[known] = np.arange(len(known))
    return np.asarray(place[codes.to_numpy()])


def _agree(repeated: pl.DataFrame, names: tuple[str, ...], by_value: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the rows of each cell come to, the latest received alone if that is known; and every row but one of each."""
    latest = repeated
    if "received" in by_value:
        latest = repeated.filter(pl.col("received").eq_missing(pl.col("received").max().over(KEY)))
    agreed = latest.group_by(KEY).agg(
        *(pl.col(name).drop_nulls().min() for name in names),
        *((pl.col(name).drop_nulls().n_unique() > 1).alias(f"{name}_conflict") for name in names),
    )
    newest_first = [name == "received" for name in (*KEY, *by_value)]
    further = repeated.sort(*KEY, *by_value, descending=newest_first, nulls_last=True).filter(
        pl.int_range(pl.len()).over(KEY) > 0
    )
    return agreed, further


def _cells(rows: Rows, shape: tuple[int, int], config: StreamConfig) -> dict[str, pl.Series]:
    """Values and flags of every cell, sensor by sensor."""
    grids, conflicts = {}, {}
    for name in config.variable_names:
        values = np.full(shape[0] * shape[1], np.nan, dtype=_width(rows.single.schema[name]))
        values[rows.single_cell] = rows.single[name].to_numpy()
        values[rows.agreed_cell] = rows.agreed[name].to_numpy()
        conflict = np.zeros(len(values), dtype=bool)
        conflict[rows.agreed_cell] = rows.agreed[f"{name}_conflict"].to_numpy()
        grids[name], conflicts[name] = values, conflict
    return _flagged(grids, conflicts, shape, rows.single.schema, config)


def _width(dtype: pl.DataType) -> type[np.floating[Any]]:
    return np.float32 if dtype == pl.Float32 else np.float64


def _flagged(
    grids: dict[str, NDArray[Any]],
    conflicts: dict[str, NDArray[np.bool_]] | None,
    shape: tuple[int, int],
    schema: pl.Schema,
    config: StreamConfig,
) -> dict[str, pl.Series]:
    """Values and flags as columns."""
    columns: dict[str, pl.Series] = {}
    for name, values in grids.items():
        conflict = np.zeros(len(values), dtype=bool) if conflicts is None else conflicts[name]
        flags = flag_sensors(values.reshape(shape), conflict.reshape(shape), config.rules(name), config.step)
        columns[name] = pl.Series(name, values, nan_to_null=True).cast(schema[name])
        columns[flag_column(name)] = pl.Series(flag_column(name), flags.ravel()).cat.to(FLAG)
    return columns


def _grid(columns: dict[str, pl.Series], ids: pl.Series, times: pl.Series) -> pl.DataFrame:
    """The complete table of sensors by steps."""
    shape = (len(ids), len(times))
    sensor = ids.cast(pl.Categorical).gather(np.repeat(np.arange(shape[0], dtype=np.uint32), shape[1]))
    timestamp = times.gather(np.tile(np.arange(shape[1], dtype=np.uint32), shape[0]))
    return pl.DataFrame({"sensor_id": sensor, "timestamp": timestamp, **columns}).select(
        "sensor_id", "timestamp", pl.lit(0, dtype=pl.UInt32).alias("copy"), *columns
    )


def _insert(extra: pl.DataFrame, grid: pl.DataFrame, ids: pl.Series, times: pl.Series) -> pl.DataFrame:
    """The grid with further rows behind those of their time; both are sorted, so the large one need not be."""
    behind = times.search_sorted(extra["timestamp"], side="right").to_numpy()
    before = places(extra["sensor_id"], ids) * len(times) + behind
    order = np.insert(np.arange(len(grid)), before, len(grid) + np.arange(len(extra)))
    return pl.concat([grid, extra], rechunk=True)[order]


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
