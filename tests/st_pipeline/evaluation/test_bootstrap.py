"""The block bootstrap: estimates are the plain formulas, intervals cover what they promise, borders are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from st_pipeline.errors import InputError
from st_pipeline.evaluation.bootstrap import Pairs, block_bootstrap, block_length, bootstrap_interval
from st_pipeline.evaluation.period_matrix import PeriodMatrix

Array = NDArray[np.float64]
KEYS = ("2011", "2012", "2013")


def overlapping(generator: np.random.Generator, *, windows: int, overlap: int, persistence: float = 0.3) -> Array:
    """Mean zero, variance about one over the overlap: an AR(1) process seen through windows that share steps."""
    process = lfilter([1.0], [1.0, -persistence], generator.normal(size=windows + overlap + 99))[100:]
    return np.convolve(process, np.full(overlap, 1 / overlap), "valid")


def make_pairs(
    generator: np.random.Generator, *, windows: int, overlap: int, periods: int = 1, shift: float = 0.0
) -> list[Pairs]:
    """Errors about 5 per cell, of cells that come and go, the first forecaster's higher by `shift`."""
    found = []
    for _ in range(periods):
        cells = generator.integers(5, 15, size=windows).astype(float)
        shared, first, second = (overlapping(generator, windows=windows, overlap=overlap) for _ in range(3))
        found.append(Pairs(cells * (5 + shared + first + shift), cells * (5 + shared + second), cells))
    return found


def test_the_estimate_is_the_difference_of_ratios() -> None:
    pairs = make_pairs(np.random.default_rng(0), windows=40, overlap=2, periods=3, shift=0.5)
    first, second, cells = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    a, b = first.sum() / cells.sum(), second.sum() / cells.sum()
    pooled = block_bootstrap(pairs, block=4, repeats=50, seed=1)
    assert pooled.difference.estimate == pytest.approx(a - b)
    assert pooled.relative is not None
    assert pooled.relative.estimate == pytest.approx(100 * (a / b - 1))
    assert pooled.difference.low < a - b < pooled.difference.high
    by_period = [(one.first.sum() - one.second.sum()) / one.cells.sum() for one in pairs]
    found = block_bootstrap(pairs, block=4, repeats=50, seed=1, average="periods")
    assert found.difference.estimate == pytest.approx(np.mean(by_period))
    assert found.difference.estimate != pytest.approx(a - b)


def test_columns_are_ratios_whose_mean_is_taken() -> None:
    [one], [other] = (make_pairs(np.random.default_rng(seed), windows=40, overlap=2) for seed in (0, 1))
    both = Pairs(*(np.stack(arrays, axis=1) for arrays in zip(one, other, strict=True)))
    estimates = [
        block_bootstrap([pair], block=4, repeats=50, seed=1).difference.estimate for pair in (one, other, both)
    ]
    assert estimates[2] == pytest.approx((estimates[0] + estimates[1]) / 2)


def test_the_standard_error_is_that_of_all_circular_blocks() -> None:
    windows, block = 60, 6
    errors = overlapping(np.random.default_rng(3), windows=windows, overlap=3)
    sums = np.array([np.take(errors, range(start, start + block), mode="wrap").sum() for start in range(windows)])
    exact = np.sqrt(windows / block * sums.var()) / windows * np.sqrt(10 / 9)
    pair = Pairs(9 + errors, np.full(windows, 9.0), np.ones(windows))
    found = block_bootstrap([pair], block=block, repeats=40_000, seed=1).difference
    quantile_of_9_degrees = 2.262
    assert (found.high - found.low) / 2 == pytest.approx(quantile_of_9_degrees * exact, rel=0.02)


def test_blocks_stay_within_a_period() -> None:
    periods = [(1.0, 30), (50.0, 20), (7.0, 5)]
    pairs = [Pairs(np.full(n, 100 + level), np.full(n, 100.0), np.full(n, 10.0)) for level, n in periods]
    found = block_bootstrap(pairs, block=6, seed=0).difference
    assert found.high - found.low < 1e-9  # a block across a border would mix the levels


def test_the_same_seed_draws_the_same_blocks() -> None:
    pairs = make_pairs(np.random.default_rng(0), windows=60, overlap=3)
    one, same, other = (block_bootstrap(pairs, block=6, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.difference != other.difference
    assert one.difference.low == pytest.approx(
        other.difference.low, abs=0.1 * (other.difference.high - other.difference.low)
    )


def test_interval_and_p_value_agree() -> None:
    for seed in range(30):
        pairs = make_pairs(np.random.default_rng(seed), windows=80, overlap=3, shift=0.25)
        found = block_bootstrap(pairs, block=9, repeats=200, seed=seed).difference
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_the_same_forecasts_are_no_evidence() -> None:
    [pair] = make_pairs(np.random.default_rng(0), windows=60, overlap=3)
    found = block_bootstrap([Pairs(pair.first, pair.first.copy(), pair.cells)], block=6, seed=0)
    assert found.difference == found.relative == (0.0, 0.0, 0.0, 1.0)


def test_a_percentage_of_no_error_is_unknown() -> None:
    pair = Pairs(np.ones(20), np.zeros(20), np.ones(20))
    assert block_bootstrap([pair], block=4, seed=0).relative is None


@pytest.mark.parametrize(("windows", "overlap", "periods"), [(400, 6, 1), (120, 6, 4), (22, 3, 4)])
def test_equal_models_differ_at_the_nominal_rate(windows: int, overlap: int, periods: int) -> None:
    generator = np.random.default_rng(5)
    found = []
    for seed in range(500):
        pairs = make_pairs(generator, windows=windows, overlap=overlap, periods=periods)
        block = block_length([windows] * periods, horizon=overlap)
        found.append(block_bootstrap(pairs, block=block, repeats=200, seed=seed).difference.p_value < 0.05)
    assert 0.02 < np.mean(found) < 0.09


def test_intervals_cover_a_planted_difference_and_find_it() -> None:
    generator = np.random.default_rng(5)
    covered, relative, certain = [], [], []
    for seed in range(400):
        pairs = make_pairs(generator, windows=200, overlap=6, periods=3, shift=0.5)
        found = block_bootstrap(pairs, block=18, repeats=200, seed=seed, average="periods")
        assert found.relative is not None
        covered.append(found.difference.low <= 0.5 <= found.difference.high)
        relative.append(found.relative.low <= 10 <= found.relative.high)
        certain.append(found.difference.p_value < 0.05 and found.difference.low > 0)
    assert 0.91 < np.mean(covered) < 0.98 and 0.91 < np.mean(relative) < 0.98
    assert np.mean(certain) > 0.95


def test_a_block_holds_three_horizons_and_whole_days() -> None:
    assert block_length([100], horizon=12) == 36
    assert block_length([50_000, 14_000], horizon=1) == 40
    assert block_length([100], horizon=12, day_steps=24) == 48
    assert block_length([1800] * 7, horizon=12, day_steps=288) == 288
    assert block_length([2], horizon=1) == 3


def test_a_period_shorter_than_two_blocks_is_drawn_in_halves() -> None:
    pairs = make_pairs(np.random.default_rng(0), windows=10, overlap=2, periods=2)
    long, half = (block_bootstrap(pairs, block=block, seed=0) for block in (1000, 5))
    assert long == half and long.blocks == 4


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"first": np.ones(3)}, r"Period 1 of the pairs: loss sums and cells have shapes \(3,\), \(8,\)"),
        ({"second": np.array([1.0] * 7 + [np.nan])}, "1 values of 24 that are not finite"),
        ({"cells": np.zeros(8)}, "no scored cell"),
        ({"first": np.empty(0), "second": np.empty(0), "cells": np.empty(0)}, "a period of 0 windows"),
        ({"first": np.ones(1), "second": np.ones(1), "cells": np.ones(1)}, "none has 2 windows or more"),
    ],
)
def test_what_cannot_be_resampled_is_refused(change: dict[str, Array], what: str) -> None:
    pair = Pairs(np.ones(8), np.ones(8), np.ones(8))._replace(**change)
    with pytest.raises(InputError, match=what):
        block_bootstrap([pair], block=2, seed=0)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"block": 0}, "blocks of 0 windows"),
        ({"block": 2, "repeats": 1}, "1 repeats"),
        ({"block": 2, "level": 0.05}, r"level is 0\.05"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        block_bootstrap([Pairs(np.ones(8), np.ones(8), np.ones(8))], seed=0, **options)


def test_no_periods_are_refused() -> None:
    with pytest.raises(InputError, match="no period"):
        block_bootstrap([], block=2, seed=0)


def matrix_sums(
    generator: np.random.Generator, *, windows: int, forgotten: float
) -> tuple[dict[Any, Array], dict[Any, Array]]:
    """Errors of every model on every earlier period, `forgotten` higher than right after learning it."""
    sums, cells = {}, {}
    for column, period in enumerate(KEYS):
        count = generator.integers(5, 15, size=windows).astype(float)
        shared = overlapping(generator, windows=windows, overlap=3)
        for row, through in enumerate(KEYS[column:]):
            own = overlapping(generator, windows=windows, overlap=3)
            sums[through, period] = count * (5 + 3 * shared + own + (forgotten if row else 0))
            cells[through, period] = count
    return sums, cells


def backward_transfer(errors: Array) -> float | None:
    return PeriodMatrix(KEYS, errors).backward_transfer


def test_the_estimate_is_the_statistic_of_the_whole_matrix() -> None:
    sums, cells = matrix_sums(np.random.default_rng(0), windows=50, forgotten=0.4)
    matrix = np.full((3, 3), np.nan)
    for (through, period), values in sums.items():
        matrix[KEYS.index(through), KEYS.index(period)] = values.sum() / cells[through, period].sum()
    for name in ("forgetting", "backward_transfer"):
        found = bootstrap_interval(
            sums,
            cells,
            lambda errors, name=name: getattr(PeriodMatrix(KEYS, errors), name),
            block=9,
            repeats=40,
            seed=0,
        )
        assert found.estimate == pytest.approx(getattr(PeriodMatrix(KEYS, matrix), name))
        assert found.low < found.estimate < found.high


def test_windows_of_a_period_are_drawn_once_for_all_models() -> None:
    generator = np.random.default_rng(0)
    cells = {(through, period): np.full(40, 10.0) for period in KEYS for through in KEYS if through >= period}
    shared = {period: 50 + generator.normal(size=40) for period in KEYS}
    sums = {(through, period): shared[period] + 10 * (through > period) for through, period in cells}
    found = bootstrap_interval(sums, cells, backward_transfer, block=4, repeats=100, seed=0)
    assert found.estimate == pytest.approx(1) and found.high - found.low < 1e-9


def test_intervals_of_backward_transfer_cover_it() -> None:
    generator = np.random.default_rng(1)
    found = [
        bootstrap_interval(
            *matrix_sums(generator, windows=100, forgotten=0.8), backward_transfer, block=9, repeats=60, seed=seed
        )
        for seed in range(200)
    ]
    assert 0.89 < np.mean([one.low <= 0.8 <= one.high for one in found]) < 0.99
    assert np.mean([one.p_value < 0.05 for one in found]) > 0.9


def test_a_matrix_that_cannot_be_resampled_is_refused() -> None:
    sums, cells = matrix_sums(np.random.default_rng(0), windows=20, forgotten=0.0)
    options: dict[str, Any] = {"block": 4, "repeats": 5, "seed": 0}
    with pytest.raises(InputError, match="expected the same keys"):
        bootstrap_interval(sums, {KEYS[:2]: np.ones(20)}, backward_transfer, **options)
    with pytest.raises(InputError, match=r"Period 2011: loss sums and cells have shapes \(19,\), \(20,\)"):
        bootstrap_interval({**sums, ("2013", "2011"): np.ones(19)}, cells, backward_transfer, **options)
    with pytest.raises(InputError, match="statistic of the period matrix and its resamples holds 6 values of 6"):
        bootstrap_interval(sums, cells, lambda errors: None, **options)
