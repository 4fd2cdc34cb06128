"""Block bootstrap of ratio means: windows overlap and errors of neighbouring hours are alike, so blocks are resampled.

Blocks are circular (Politis and Romano 1992) and lie within one period. Intervals are t intervals around the estimate
with the bootstrap's standard error, so that interval and p-value always agree. A spread around the mean of few blocks
is too small: with m blocks in P periods the standard error is widened by sqrt(m / (m - P)) and t has m - P degrees
(narrowness bias, Hesterberg 2015, with blocks for observations). What is drawn anew are the hours of these periods:
other periods and other seeds of training are not in the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from st_pipeline.errors import InputError
from st_pipeline.evaluation.significance import require_finite, require_level

Array = NDArray[np.float64]
OVERLAPS = 3  # block over horizon: shorter blocks cut too many of the pairs of windows that share steps


class Pairs(NamedTuple):
    """Loss sums of two forecasters and their common cells in the windows of one period, in order of issue time.

    Arrays (n,), or (n, K) where the error is the mean of K ratios.
    """

    first: Array
    second: Array
    cells: Array


class Interval(NamedTuple):
    """An estimate, its interval, and the two-sided p-value of zero."""

    estimate: float
    low: float
    high: float
    p_value: float


class PairedInterval(NamedTuple):
    """First minus second (negative: the first has the lower error), also in percent of the second.

    `relative` is None where the second makes no error.
    """

    difference: Interval
    relative: Interval | None
    blocks: float  # over all periods


def block_length(windows: Sequence[int], *, horizon: int, day_steps: int | None = None) -> int:
    """Windows in a block, at least three horizons and n^(1/3), in whole days where `day_steps` is given."""
    length = max(OVERLAPS * horizon, ceil(sum(windows) ** (1 / 3)), 1)
    return length if day_steps is None else ceil(length / day_steps) * day_steps


def block_bootstrap(
    pairs: Sequence[Pairs],
    *,
    block: int,
    repeats: int = 2000,
    seed: int,
    level: float = 0.95,
    average: Literal["cells", "periods"] = "cells",
) -> PairedInterval:
    """Paired block bootstrap of the difference of two errors, sum first / sum cells - sum second / sum cells.

    Args:
        pairs: one per period. A period shorter than two blocks is resampled in halves.
        block: windows in a block, see `block_length`.
        average: sums go over all periods (`cells`), or the error is the mean over the periods' errors (`periods`).

    Raises:
        InputError: a number is not finite, lengths differ, no cell counts, or no period has two windows.
    """
    if not pairs:
        raise InputError("A bootstrap got no period; expected at least one with loss sums.")
    generator = np.random.default_rng(seed)
    windows = [_stacked(period, f"Period {place} of the pairs") for place, period in enumerate(pairs, start=1)]
    totals = np.stack([_totals(one, block=block, repeats=repeats, generator=generator) for one in windows], axis=1)
    if average == "cells":
        totals = totals.sum(axis=1, keepdims=True)
    first, second = (_ratio(totals[:, :, which], totals[:, :, 2]).mean(axis=(1, 2)) for which in (0, 1))
    spread = _Spread.of([len(one) for one in windows], block=block)
    difference = spread.interval(first - second, level)
    relative = spread.interval(100 * (first - second) / second, level) if (second > 0).all() else None
    return PairedInterval(difference, relative, spread.blocks)


def bootstrap_interval(
    sums: Mapping[tuple[str, str], Array],
    cells: Mapping[tuple[str, str], Array],
    statistic: Callable[[Array], float | None],
    *,
    block: int,
    repeats: int = 2000,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Interval of a number that follows from a period matrix, such as forgetting or backward transfer.

    The windows of a period are drawn once for all models tested on it, so what the models share cancels.

    Args:
        sums: (trained_through, period) -> loss sums of that period's windows, (n,) or (n, K).
        cells: the same for scored cells.
        statistic: of the errors (P, P), rows trained_through and columns period in ascending order, NaN where unknown,
            as in `PeriodMatrix`.

    Raises:
        InputError: the arrays of one period differ in length, or the statistic is unknown in a resample.
    """
    if not sums or sums.keys() != cells.keys():
        raise InputError("Loss sums and cells are of different entries of a period matrix; expected the same keys.")
    place = {name: index for index, name in enumerate(sorted({name for key in sums for name in key}))}
    errors = np.full((1 + repeats, len(place), len(place)), np.nan)
    generator = np.random.default_rng(seed)
    lengths = []
    for period in sorted({period for _, period in sums}):
        rows = [through for through, tested in sums if tested == period]
        columns = [array for through in rows for array in (sums[through, period], cells[through, period])]
        windows = _stacked(columns, f"Period {period}")
        lengths.append(len(windows))
        totals = _totals(windows, block=block, repeats=repeats, generator=generator)
        for index, through in enumerate(rows):
            errors[:, place[through], place[period]] = _ratio(totals[:, 2 * index], totals[:, 2 * index + 1]).mean(-1)
    values = [statistic(matrix) for matrix in errors]
    known = np.array([np.nan if value is None else value for value in values])
    require_finite(known, "A statistic of the period matrix and its resamples")
    return _Spread.of(lengths, block=block).interval(known, level)


class _Spread(NamedTuple):
    """Blocks over all periods, and how many of them vary."""

    blocks: float
    freedom: float

    @classmethod
    def of(cls, lengths: Sequence[int], *, block: int) -> _Spread:
        blocks = sum(length / _within(block, length) for length in lengths)
        if not blocks > len(lengths):
            raise InputError(
                f"Of {len(lengths)} periods none has 2 windows or more, so nothing varies between their blocks; "
                "compare on a longer test part."
            )
        return cls(blocks, blocks - len(lengths))

    def interval(self, values: Array, level: float) -> Interval:
        """From the estimate and its replicates, (1 + repeats,)."""
        require_level(level)
        estimate, error = float(values[0]), float(values[1:].std() * np.sqrt(self.blocks / self.freedom))
        reach = error * float(stats.t.ppf((1 + level) / 2, self.freedom))
        p_value = 2 * float(stats.t.sf(abs(estimate) / error, self.freedom)) if error else float(estimate == 0)
        return Interval(estimate, estimate - reach, estimate + reach, p_value)


def _within(block: int, length: int) -> int:
    """Windows of a block in a period of `length` windows: at most half of them, so that two blocks differ."""
    return max(min(block, length // 2), 1)


def _stacked(arrays: Sequence[Array], where: str) -> Array:
    """Arrays (n,) or (n, K) of one period, side by side: (n, arrays, K)."""
    if len(shapes := {np.shape(array) for array in arrays}) > 1:
        found = ", ".join(map(str, sorted(shapes)))
        raise InputError(f"{where}: loss sums and cells have shapes {found}; expected the same windows in all of them.")
    windows = np.stack([np.asarray(array, dtype=np.float64) for array in arrays], axis=1)
    require_finite(windows, f"{where}: the loss sums and cells")
    return windows if windows.ndim == 3 else windows[..., None]


def _totals(windows: Array, *, block: int, repeats: int, generator: np.random.Generator) -> Array:
    """Sums over one period's windows (n, ...) and over resamples of them: (1 + repeats, ...), the plain sum first."""
    count = len(windows)
    if block < 1 or repeats < 2 or not count:
        raise InputError(
            f"A bootstrap got blocks of {block} windows, {repeats} repeats and a period of {count} windows; "
            "expected at least 1, 2 and 1."
        )
    block = _within(block, count)
    running = np.cumsum(np.concatenate([np.zeros_like(windows[:1]), windows, windows[:block]]), axis=0)
    totals = np.zeros((repeats, *windows.shape[1:]))
    for begin in range(0, count, block):
        starts = generator.integers(count, size=repeats)
        totals += running[starts + min(block, count - begin)] - running[starts]
    return np.concatenate([windows.sum(axis=0)[None], totals])


def _ratio(sums: Array, cells: Array) -> Array:
    """Errors per cell, elementwise."""
    if not (cells > 0).all():
        raise InputError("A period or a resample of it has no scored cell; leave it out, or take longer blocks.")
    return sums / cells
