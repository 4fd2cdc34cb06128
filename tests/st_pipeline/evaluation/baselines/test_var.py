"""The vector autoregression is least squares, rolled; unobserved cells follow the rule that is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.tsa.api import VAR

from st_pipeline.evaluation.baselines import baselines
from st_pipeline.evaluation.baselines.base import Panel
from st_pipeline.evaluation.baselines.var import carried_forward, fit

LENGTH, TRAIN, HORIZON, SENSORS = 300, 180, 5, 3


def values(seed: int = 0) -> NDArray[np.float64]:
    """(L, M) of a stable vector autoregression with two lags."""
    random = np.random.default_rng(seed)
    first, second = random.uniform(-0.25, 0.25, (2, SENSORS, SENSORS))
    found = random.normal(size=(LENGTH, SENSORS))
    for step in range(2, LENGTH):
        found[step] += 0.3 + first @ found[step - 1] + second @ found[step - 2]
    return found


def made(panel_values: NDArray[np.float64], *, train: int = TRAIN, day: int = 24, **options: Any) -> Any:
    panel = Panel(panel_values, train=train, horizon=HORIZON, day=day)
    return baselines.build({"name": "var", **options}, panel=panel)


@pytest.mark.parametrize("lags", [1, 3])
def test_without_ridge_it_is_the_regression_of_statsmodels(lags: int) -> None:
    x = values()
    issued = np.array([TRAIN, TRAIN + 17, LENGTH - HORIZON - 1])
    own = VAR(x[:TRAIN]).fit(lags, trend="c")
    found = made(x, lags=lags, ridge=0.0).forecasts(issued)
    for window, step in enumerate(issued):
        expected = own.forecast(x[step + 1 - lags : step + 1], HORIZON)
        np.testing.assert_allclose(found[window], expected, rtol=1e-9, atol=1e-11)


@given(seed=st.integers(0, 2**32 - 1), ridge=st.sampled_from([1e-3, 1e-2, 1e-1, 10.0]))
def test_ridge_minimises_mean_squared_error_and_the_penalty(seed: int, ridge: float) -> None:
    x, lags = values(seed), 2
    constant, weights = fit(x, lags, ridge)

    def objective(constant: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
        design = np.concatenate([x[lags - lag : LENGTH - lag] for lag in (1, 2)], axis=1)
        error = x[lags:] - constant - design @ weights
        return float((error**2).sum(axis=1).mean() + ridge * (weights**2).sum())

    best = objective(constant, weights)
    random = np.random.default_rng(seed)
    for _ in range(5):
        step, other = random.normal(0, 1e-3, constant.shape), random.normal(0, 1e-3, weights.shape)
        assert objective(constant + step, weights + other) > best


def test_defaults_are_three_lags_and_a_hundredth() -> None:
    issued = np.array([TRAIN])
    np.testing.assert_array_equal(
        made(values()).forecasts(issued), made(values(), lags=3, ridge=0.01).forecasts(issued)
    )


def test_sensors_that_are_the_same_and_more_columns_than_rows_are_solved() -> None:
    twins = values()[:, [0, 0, 1, 1]]
    for train, ridge in ((TRAIN, 0.0), (TRAIN, 0.01), (10, 0.0), (10, 0.01)):
        found = made(twins, train=train, ridge=ridge).forecasts(np.arange(TRAIN, LENGTH - HORIZON))
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[..., 0], found[..., 1], rtol=1e-6, atol=1e-9)


def test_a_training_part_shorter_than_the_lags_gives_averages_and_says_so() -> None:
    short = made(values(), train=4, lags=4)
    assert not short.forecasts(np.array([5, 50])).any()
    assert short.notes == dict.fromkeys(range(SENSORS), "its average: no training step has 4 steps before it")


def test_lags_before_the_period_are_averages() -> None:
    found = made(values(), lags=50, ridge=0.1).forecasts(np.array([0]))
    assert np.isfinite(found).all()


def test_what_is_not_observed_is_carried_forward_for_so_long_and_then_average() -> None:
    nan = np.nan
    gaps = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [nan, nan], [nan, 5.0]])
    expected = [[0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 0.0], [0.0, 5.0]]
    np.testing.assert_array_equal(carried_forward(gaps, at_most=2), expected)


@given(seed=st.integers(0, 2**32 - 1), place=st.integers(TRAIN, LENGTH - HORIZON - 1))
def test_gaps_are_filled_from_what_is_past_alone(seed: int, place: int) -> None:
    x = values(seed)
    random = np.random.default_rng(seed)
    x[random.random(x.shape) < 0.3] = np.nan
    changed = x.copy()
    changed[place + 1 :] = random.normal(0, 1e6, changed[place + 1 :].shape)
    changed[random.random(x.shape) < 0.3 * (np.arange(LENGTH) > place)[:, None]] = np.nan
    issued = np.array([place])
    np.testing.assert_array_equal(made(x).forecasts(issued), made(changed).forecasts(issued))


def test_the_share_of_filled_cells_is_a_fact() -> None:
    x = values()
    x[:30] = np.nan
    assert made(x).facts == {"lags": 3, "ridge": 0.01, "rows": TRAIN - 3, "filled_share": 0.1}
