"""Naive forecasts are exact where their season is the series', look back only, and fall back in the stated order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from st_pipeline.data.protocols import PeriodArrays
from st_pipeline.evaluation.naive import NaiveForecasts
from st_pipeline.model_config import NAIVE_MODELS

Make = Callable[..., PeriodArrays]
Values = NDArray[np.float64]
SLOW: dict[str, Any] = {"step": "6h", "window": 3, "horizon": 6}  # a horizon of more than a day
DAY, WEEK, LENGTH, NODES = 4, 28, 140, 3
SEEDS = st.integers(0, 2**32 - 1)


def forecasts(arrays: PeriodArrays, name: str, steps_per_day: int = DAY) -> Values:
    """(S, H, N) of all test windows."""
    made = [forecast for forecast, _, _ in NaiveForecasts(arrays, steps_per_day).batches(name)]
    return torch.cat(made).double().numpy()


def readings(seed: int, missing: float = 0.4, length: int = LENGTH) -> tuple[Values, NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    values = random.gamma(2, 30, (length, NODES)).astype(np.float32).astype(np.float64)
    return values, random.random(values.shape) >= missing


def plain(arrays: PeriodArrays, values: Values, seen: NDArray[np.bool_], name: str, issued: int, step: int) -> Values:
    """(N,) the forecast of one step by the rule as it is told."""
    train = len(arrays.cuts.train)
    network = values[:train][seen[:train]].mean() if seen[:train].any() else 0.0
    found = []
    for node in range(NODES):
        own, known = values[:, node], seen[:, node]
        average = own[:train][known[:train]].mean() if known[:train].any() else network
        if name == "historical_average":
            same = [at for at in range(train) if at % WEEK == step % WEEK and known[at]]
            found.append(own[same].mean() if same else average)
            continue
        lags = {"naive_last": [], "naive_daily": [DAY], "naive_weekly": [WEEK, 2 * WEEK, DAY]}[name]
        places = [next(at for at in range(step - lag, -LENGTH, -lag) if at <= issued) for lag in lags]
        places += range(issued, -1, -1)
        found.append(next((own[at] for at in places if at >= 0 and known[at]), average))
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "season"), [("naive_last", 1), ("naive_daily", DAY), ("naive_weekly", WEEK), ("historical_average", WEEK)]
)
@given(seed=SEEDS)
def test_a_series_of_its_season_is_forecast_without_error(make_arrays: Make, name: str, season: int, seed: int) -> None:
    cycle = np.random.default_rng(seed).gamma(2, 30, (season, NODES))
    arrays = make_arrays(np.tile(cycle, (LENGTH // season + 1, 1))[:LENGTH], **SLOW)
    for forecast, truth, scored in NaiveForecasts(arrays, DAY).batches(name):
        assert scored.all()
        torch.testing.assert_close(forecast, truth, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAIVE_MODELS)
@given(seed=SEEDS, place=st.integers(0, LENGTH), missing=st.sampled_from([0.0, 0.4, 0.9]))
def test_nothing_after_the_window_is_read(make_arrays: Make, name: str, seed: int, place: int, missing: float) -> None:
    values, seen = readings(seed, missing)
    before = make_arrays(values, seen, **SLOW)
    window = place % len(forecasts(before, name))
    known = before.cuts.test.start + window + SLOW["window"]
    random = np.random.default_rng(seed + 1)
    values[known:] = random.normal(0, 1e6, values[known:].shape)
    seen[known:] = random.random(seen[known:].shape) < 0.5
    after = make_arrays(values, seen, **SLOW)
    np.testing.assert_array_equal(forecasts(after, name)[window], forecasts(before, name)[window])


@pytest.mark.parametrize("name", NAIVE_MODELS)
@given(seed=SEEDS, missing=st.sampled_from([0.0, 0.3, 0.7, 0.97]), length=st.sampled_from([2 * WEEK, LENGTH]))
def test_forecasts_are_those_of_the_rule_told_in_words(
    make_arrays: Make, name: str, seed: int, missing: float, length: int
) -> None:
    values, seen = readings(seed, missing, length)
    seen[:, 2] &= np.arange(length) >= seed % length  # comes late, at times too late for an average of its own
    arrays = make_arrays(values, seen, **SLOW)
    found = forecasts(arrays, name)
    first = arrays.cuts.test.start + SLOW["window"]
    for window in (0, len(found) // 2, len(found) - 1):
        for ahead in range(SLOW["horizon"]):
            issued = first + window - 1
            expected = plain(arrays, values, seen, name, issued, issued + 1 + ahead)
            np.testing.assert_allclose(found[window, ahead], expected, rtol=1e-5)


def test_a_missing_week_falls_back_step_by_step(make_arrays: Make) -> None:
    values = np.arange(LENGTH, dtype=np.float64)[:, None].repeat(NODES, axis=1) + 1
    seen = np.ones(values.shape, bool)
    first = make_arrays(values, **SLOW).cuts.test.start + SLOW["window"]  # the first step that is forecast
    found = []
    for gone in (first - WEEK, first - 2 * WEEK, first - DAY, first - 1):
        found.append(forecasts(make_arrays(values, seen, **SLOW), "naive_weekly")[0, 0, 0])
        seen[gone] = False
    found.append(forecasts(make_arrays(values, seen, **SLOW), "naive_weekly")[0, 0, 0])
    expected = [first - WEEK, first - 2 * WEEK, first - DAY, first - 1, first - 2]
    assert found == [step + 1 for step in expected]


@pytest.mark.parametrize("name", NAIVE_MODELS)
def test_a_sensor_never_heard_takes_the_average_of_the_network(make_arrays: Make, name: str) -> None:
    values, seen = readings(0)
    seen[:, 1] = False
    arrays = make_arrays(values, seen, **SLOW)
    train = slice(len(arrays.cuts.train))
    np.testing.assert_allclose(forecasts(arrays, name)[..., 1], values[train][seen[train]].mean(), rtol=1e-6)
    silent = make_arrays(values, np.zeros_like(seen), **SLOW)
    assert not forecasts(silent, name).any()


@pytest.mark.parametrize("name", NAIVE_MODELS)
def test_truth_and_scored_cells_are_those_of_the_test_windows(make_arrays: Make, name: str) -> None:
    values, seen = readings(1)
    arrays = make_arrays(values, seen, **SLOW)
    batches = list(NaiveForecasts(arrays, DAY).batches(name))
    _, truth, scored = (torch.cat(part) for part in zip(*batches, strict=True))
    first = arrays.cuts.test.start + SLOW["window"]
    steps = first + np.arange(len(truth))[:, None] + np.arange(SLOW["horizon"])
    assert steps.max() == LENGTH - 1
    np.testing.assert_array_equal(scored, seen[steps])
    np.testing.assert_array_equal(truth[scored], values[steps][seen[steps]])


def test_more_windows_than_are_made_at_once_are_all_forecast(make_arrays: Make) -> None:
    values = np.random.default_rng(0).random((4000, 1))
    found = forecasts(make_arrays(values), "naive_last", 24)
    arrays = make_arrays(values)
    first = arrays.cuts.test.start + arrays.window
    np.testing.assert_allclose(found[:, 0, 0], values[first - 1 : 4000 - arrays.horizon, 0], rtol=1e-6)
