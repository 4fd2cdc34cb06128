"""Quality rules on a regular grid: which cells are sentinels, out of range, stuck or spikes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st_pipeline.data_config import VariableConfig

FLAGS = ("observed", "missing", "sentinel", "duplicate", "out_of_range", "stuck", "spike", "off_grid")
OBSERVED, MISSING, SENTINEL, DUPLICATE, OUT_OF_RANGE, STUCK, SPIKE, OFF_GRID = range(len(FLAGS))
REACH = 2  # a spike stands out of the median of its neighbours up to this many steps away
MAD_TO_SIGMA = 1.4826
LARGEST = np.finfo(np.float32).max  # the width of a tensor
CHUNK = 64  # sensors at a time

Grid = NDArray[np.float64]
Flags = NDArray[np.uint8]


def flag_sensors(values: NDArray[Any], conflict: NDArray[np.bool_], rules: VariableConfig, step: timedelta) -> Flags:
    """`flag_cells` for any number of sensors (N, L): some at a time, which bounds the memory."""
    flags = np.empty(values.shape, dtype=np.uint8)

    def work(first: int) -> None:
        part = slice(first, first + CHUNK)
        flags[part] = flag_cells(values[part].astype(np.float64), conflict[part], rules, step)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(work, range(0, len(values), CHUNK)):
            pass
    return flags


def flag_cells(values: Grid, conflict: NDArray[np.bool_], rules: VariableConfig, step: timedelta) -> Flags:
    """Flag of every cell of one variable; the first rule that applies wins.

    Args:
        values: (N, L), NaN where nothing was landed.
        conflict: (N, L) cells with contradicting copies.
    """
    flags = np.full(values.shape, OBSERVED, dtype=np.uint8)
    flags[np.isnan(values)] = MISSING
    flags[conflict] = DUPLICATE
    if rules.sentinels:
        wide = np.array(rules.sentinels)
        written = np.concatenate([wide, wide.astype(np.float32)])  # files may hold either width
        flags[(flags == OBSERVED) & np.isin(values, written)] = SENTINEL
    outside = np.abs(values) > LARGEST
    if rules.minimum is not None:
        outside |= values < rules.minimum
    if rules.maximum is not None:
        outside |= values > rules.maximum
    flags[(flags == OBSERVED) & outside] = OUT_OF_RANGE
    usable = np.where(flags == OBSERVED, values, np.nan)
    flags[_stuck(usable, rules, step)] = STUCK
    if rules.spike is not None:
        flags[(flags == OBSERVED) & spikes(np.where(flags == OBSERVED, values, np.nan), rules.spike)] = SPIKE
    return flags


def _stuck(values: Grid, rules: VariableConfig, step: timedelta) -> NDArray[np.bool_]:
    stuck = np.zeros(values.shape, dtype=bool)
    if rules.stuck is None and rules.stuck_at_zero is None:
        return stuck
    lengths = run_lengths(values)
    for limit, kind in ((rules.stuck, values != 0), (rules.stuck_at_zero, values == 0)):
        if limit is not None:
            stuck |= kind & ~np.isnan(values) & (lengths >= max(2, -(-limit // step)))
    return stuck


def run_lengths(values: Grid) -> NDArray[np.int64]:
    """Length of the run of equal values each cell belongs to: (N, L) -> (N, L); a NaN is a run of its own."""
    starts = np.ones(values.shape, dtype=bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    run = np.cumsum(starts.ravel()) - 1
    return np.bincount(run)[run].reshape(values.shape)


def spikes(values: Grid, limit: float) -> NDArray[np.bool_]:
    """Cells further than `limit` robust deviations from the median of their neighbourhood: (N, L) -> (N, L).

    The deviation is the sensor's own: 1.4826 times the median over the period of the distances to that median that
    are not zero.
    """
    distance = np.abs(values - _rolling_median(values))
    with np.errstate(invalid="ignore"):
        spread = MAD_TO_SIGMA * _row_median(np.where(distance > 0, distance, np.nan))
        return np.asarray(distance > limit * spread[:, None])


def _rolling_median(values: Grid) -> Grid:
    padded = np.pad(values, ((0, 0), (REACH, REACH)), constant_values=np.nan)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1, axis=1), axis=2)  # NaN last
    return _middle(around, (~np.isnan(around)).sum(axis=2))


def _row_median(values: Grid) -> Grid:
    ordered = np.sort(values, axis=1)
    return _middle(ordered, (~np.isnan(ordered)).sum(axis=1))


def _middle(ordered: Grid, count: NDArray[np.int64]) -> Grid:
    """Median of the first `count` entries along the last axis; NaN where there are none."""
    pick = [np.take_along_axis(ordered, np.maximum(count - 1 + extra, 0)[..., None] // 2, axis=-1) for extra in (0, 1)]
    return np.asarray((pick[0] + pick[1])[..., 0] / 2)
