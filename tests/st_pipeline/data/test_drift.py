"""Drift of each sensor against its own previous period."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from st_pipeline.data.drift import FLOOR, MIN_CELLS, NOTABLE, drift_table, stability_index, unit_suspects
from st_pipeline.data.quality import FLAGS
from st_pipeline.data.tensors import SeriesTensor

MakeTensor = Callable[..., SeriesTensor]
MISSING = FLAGS.index("missing")


def sample(seed: int, *, count: int = 500, shift: float = 0, scale: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, count)


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(0.2, 5))
def test_the_index_is_that_of_the_formula(seed: int, shift: float, scale: float) -> None:
    expected, actual = sample(seed), sample(seed + 1, shift=shift, scale=scale)
    edges = np.quantile(expected, np.arange(1, 10) / 10)
    bins = [-np.inf, *edges, np.inf]
    e, a = (np.maximum(np.histogram(part, bins)[0] / len(part), FLOOR) for part in (expected, actual))
    index = stability_index(expected, actual)
    assert index == pytest.approx(((a - e) * np.log(a / e)).sum())
    assert index >= 0


def test_the_index_is_zero_for_the_same_values_and_small_for_the_same_distribution() -> None:
    assert stability_index(sample(0), sample(0)[::-1]) == 0
    assert stability_index(sample(0), sample(1)) < 0.1 < NOTABLE < stability_index(sample(0), sample(1, shift=1))


@pytest.mark.parametrize("width", [np.float32, np.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("later", [0.0, 0.1, 5.0, 9.0])
def test_a_constant_sensor_drifts_when_its_level_changes(width: type, level: float, later: float) -> None:
    index = stability_index(np.full(100, level, width), np.full(100, later, width))
    assert index == 0 if level == later else index > NOTABLE


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_a_sensor_of_many_zeros_drifts_when_they_become_few(share: float) -> None:
    values = np.abs(sample(0)) + 1
    quiet = np.where(np.arange(500) < 500 * share, 0, values)
    assert stability_index(quiet, values) > NOTABLE
    assert stability_index(quiet, quiet[::-1]) == 0
    assert stability_index(values, quiet) > NOTABLE


def test_the_table_has_the_numbers_of_the_observed_cells(make_tensor: MakeTensor) -> None:
    random = np.random.default_rng(0)
    before, now = random.gamma(2, 10, (2, 400, 2)).round().astype(np.float32)
    flags = np.where(random.random((400, 2)) < 0.3, MISSING, 0)
    table = drift_table(make_tensor(now, "ab", flags=flags), make_tensor(before, "ba"))
    assert table["sensor_id"].to_list() == ["a", "b"]
    for row, own, old in zip(table.iter_rows(named=True), (0, 1), (1, 0), strict=True):
        values, earlier = now[flags[:, own] == 0, own], before[:, old]
        assert row["cells"] == len(values)
        assert row["mean"] == pytest.approx(values.mean())
        assert row["deviation"] == pytest.approx(values.std())
        assert row["zeros"] == pytest.approx((values == 0).mean())
        assert row["mean_before"] == pytest.approx(earlier.mean())
        assert row["psi"] == pytest.approx(stability_index(earlier, values))
        assert row["wasserstein"] == pytest.approx(wasserstein_distance(earlier, values))


def test_the_wasserstein_distance_is_in_the_unit_of_the_target(make_tensor: MakeTensor) -> None:
    values = np.arange(100.0)[:, None]
    (row,) = drift_table(make_tensor(values + 7, "a"), make_tensor(values, "a")).iter_rows(named=True)
    assert row["wasserstein"] == pytest.approx(7)


def test_few_cells_are_not_compared(make_tensor: MakeTensor) -> None:
    values = np.arange(MIN_CELLS * 2.0).reshape(-1, 2)
    flags = np.zeros(values.shape, dtype=int)
    flags[0, 1] = MISSING
    for pair in (
        (make_tensor(values, "ab", flags=flags), make_tensor(values, "ab")),
        (make_tensor(values, "ab"), make_tensor(values, "ab", flags=flags)),
    ):
        table = drift_table(*pair)
        assert table["psi"].is_null().to_list() == table["wasserstein"].is_null().to_list() == [False, True]


def test_new_sensors_and_silent_ones_have_nothing_to_compare(make_tensor: MakeTensor) -> None:
    values = np.arange(120.0).reshape(-1, 2)
    silent = np.full(values.shape, MISSING) * [1, 0]
    table = drift_table(make_tensor(values, "ab", flags=silent), make_tensor(values[:, :1], "c"))
    assert table["cells"].to_list() == [0, 60]
    assert table["mean"].is_null().to_list() == [True, False]
    assert table.select("mean_before", "psi", "wasserstein").null_count().row(0) == (2, 2, 2)
    assert drift_table(make_tensor(values, "ab"), None).schema == table.schema


@pytest.mark.parametrize("factor", [1.609344, 1 / 3.6, 12.0, 0.001])
def test_a_level_that_changes_by_a_known_factor_is_suspected(make_tensor: MakeTensor, factor: float) -> None:
    before = np.abs(np.random.default_rng(0).normal(50, 10, (400, 3)))
    after = np.abs(np.random.default_rng(1).normal(50, 10, (400, 3))) * [1, factor, 1]
    (row,) = unit_suspects(make_tensor(after, "abc"), make_tensor(before, "abc")).to_dicts()
    assert row["sensor_id"] == "b" and row["factor"] == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x * 1.4, lambda x: x + 200, lambda x: x * 0, lambda x: -x])
def test_other_changes_are_not(make_tensor: MakeTensor, change: Callable[[np.ndarray], np.ndarray]) -> None:
    before = np.abs(np.random.default_rng(0).normal(50, 10, (400, 1)))
    assert unit_suspects(make_tensor(change(before), "a"), make_tensor(before, "a")).is_empty()


def test_without_enough_readings_in_both_periods_nothing_is_suspected(make_tensor: MakeTensor) -> None:
    values = np.abs(np.random.default_rng(0).normal(50, 10, (400, 1)))
    few = make_tensor(values[: MIN_CELLS - 1], "a")
    assert unit_suspects(make_tensor(values * 10, "a"), None).is_empty()
    assert unit_suspects(make_tensor(values * 10, "a"), few).is_empty()
    assert unit_suspects(make_tensor(values * 10, "a"), make_tensor(values, "b")).is_empty()
