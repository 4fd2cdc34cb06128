"""Every baseline looks back only, never fails for a sensor, says which it did not fit, and is scored like the naive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from st_pipeline.data.protocols import PeriodArrays
from st_pipeline.evaluation.baseline_forecasts import BaselineForecasts, evaluate_baseline
from st_pipeline.evaluation.baselines import baselines
from st_pipeline.evaluation.baselines.base import Baseline
from st_pipeline.evaluation.baselines.var import Var
from st_pipeline.evaluation.losses import newest, require_comparable
from st_pipeline.evaluation.rows import SCHEMA
from st_pipeline.evaluation.scoring import evaluate_naive
from st_pipeline.model_config import BaselineConfig

Make = Callable[..., PeriodArrays]
Values = NDArray[np.float64]
NAMES = baselines.names()
SMALL: dict[str, dict[str, Any]] = {"arima": {"order": [1, 0, 1]}}  # quick to fit, where the order is not the point
DAY, LENGTH = 24, 24 * 9
SEEDS = st.integers(0, 2**32 - 1)


def readings(seed: int = 0, nodes: int = 3) -> Values:
    """(L, N) with a daily shape and slow noise, some hundred in size."""
    random = np.random.default_rng(seed)
    hours = np.arange(LENGTH)[:, None]
    slow = np.cumsum(random.normal(0, 2, (LENGTH, nodes)), axis=0)
    return (100 + 10 * np.arange(nodes) + 30 * np.sin(2 * np.pi * hours / DAY) + slow).astype(np.float32)


def forecasts(arrays: PeriodArrays, name: str, **options: Any) -> Values:
    """(S, H, N) of all test windows."""
    made = BaselineForecasts(arrays, {"name": name, **options})
    return torch.cat([forecast for forecast, _, _ in made.batches()]).double().numpy()


def notes(made: BaselineForecasts) -> dict[str, str]:
    for _ in made.batches():
        pass
    return {note["sensor_id"]: note["forecast"] for note in made.diagnostics()["notes"]}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4)
@given(seed=SEEDS, place=st.integers(0, LENGTH), missing=st.sampled_from([0.0, 0.4]))
def test_nothing_after_the_window_is_read(make_arrays: Make, name: str, seed: int, place: int, missing: float) -> None:
    values, random = readings(seed, nodes=2), np.random.default_rng(seed)
    seen = random.random(values.shape) >= missing
    before = make_arrays(values, seen)
    own = forecasts(before, name, **SMALL.get(name, {}))
    window = place % len(own)
    known = before.cuts.test.start + window + before.window
    values[known:] = random.normal(0, 1e5, values[known:].shape)
    seen[known:] = random.random(seen[known:].shape) < 0.5
    np.testing.assert_array_equal(
        forecasts(make_arrays(values, seen), name, **SMALL.get(name, {}))[window], own[window]
    )


@pytest.mark.parametrize("name", NAMES)
def test_validation_and_test_readings_move_no_fit(make_arrays: Make, name: str) -> None:
    values = readings()
    changed = values.copy()
    train = len(make_arrays(values).cuts.train)
    changed[train : train + 20] *= 3
    before, after = (BaselineForecasts(make_arrays(one), {"name": name}) for one in (values, changed))
    assert before.baseline is not None and after.baseline is not None
    issued = np.array([train - 1])
    np.testing.assert_array_equal(before.baseline.forecasts(issued), after.baseline.forecasts(issued))


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_has_learnt_something(make_arrays: Make, name: str) -> None:
    values = readings()
    arrays = make_arrays(values)
    first = arrays.cuts.test.start + arrays.window
    steps = first + np.arange(len(forecasts(arrays, name)))[:, None] + np.arange(arrays.horizon)
    average = values[: len(arrays.cuts.train)].mean(axis=0)
    own = np.abs(forecasts(arrays, name) - values[steps]).mean()
    assert own < 0.5 * np.abs(average - values[steps]).mean()


@pytest.mark.parametrize("name", NAMES)
def test_sensors_without_or_with_constant_data_are_an_average_and_are_told(make_arrays: Make, name: str) -> None:
    values = readings(nodes=5)
    seen = np.ones(values.shape, bool)
    values[:, 1] = 7
    arrays = make_arrays(values)
    train = len(arrays.cuts.train)
    seen[:, 2] = False
    seen[: train - 2 * DAY + 1, 3] = False
    arrays = make_arrays(values, seen)
    network = values[:train][seen[:train]].mean()
    small = SMALL.get(name, {})
    found, told = forecasts(arrays, name, **small), notes(BaselineForecasts(arrays, {"name": name, **small}))
    np.testing.assert_allclose(found[..., 1], 7, rtol=1e-6)
    np.testing.assert_allclose(found[..., [2, 3]], network, rtol=1e-6)
    assert told == {
        "s1": f"its average: {train} observed training cells hardly vary",
        "s2": "the network's average: 0 observed training cells, statistics need 48",
        "s3": "the network's average: 47 observed training cells, statistics need 48",
    }
    np.testing.assert_allclose(found[..., [0, 4]], forecasts(make_arrays(values[:, [0, 4]]), name, **small), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [None, 5.0])
def test_a_network_of_which_nothing_is_known_is_its_average(make_arrays: Make, name: str, level: float | None) -> None:
    values = np.full((LENGTH, 2), level or 0.0)
    arrays = make_arrays(values, np.full(values.shape, level is not None))
    np.testing.assert_allclose(forecasts(arrays, name), level or 0.0)
    made = BaselineForecasts(arrays, {"name": name})
    assert set(notes(made)) == {"s0", "s1"}
    assert made.diagnostics()["sensors_in_fit"] == 0


def test_forecasts_that_explode_are_the_average_and_are_told(
    make_arrays: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: Baseline, issued: NDArray[np.int64]) -> Values:
        found = np.zeros((len(issued), 4, 3))
        found[:, 1, 0], found[:, 2, 2] = np.nan, 2e3
        return found

    monkeypatch.setattr(Var, "forecasts", explode)
    values = readings()
    arrays = make_arrays(values)
    made = BaselineForecasts(arrays, {"name": "var"})
    found = torch.cat([forecast for forecast, _, _ in made.batches()]).numpy()
    average = values[: len(arrays.cuts.train)].mean(axis=0)
    np.testing.assert_allclose(found, np.broadcast_to(average, found.shape), rtol=1e-6)
    assert set(notes(made)) == {"s0", "s2"}
    assert "over 1000 deviations" in notes(made)["s0"]


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_losses_are_of_the_windows_of_the_naive_forecasts(
    name: str, make_stream: Any, make_history: Any
) -> None:
    stream = make_stream(baselines=[name])
    (baseline,) = stream.baselines
    key, data = list(make_history(stream).items())[1]
    found, naive = evaluate_baseline(stream, baseline, data), evaluate_naive(stream, data)
    rows = found.scores
    assert rows.schema == pl.Schema(SCHEMA)
    facts = rows.select("model", "protocol", "seed", "trained_through", "period").unique()
    assert facts.rows() == [(name, "sound", 0, key, key)]
    assert set(rows["cohort"]) == {"all", *data.nodes.cohorts}
    assert rows["value"].is_finite().all()
    require_comparable(newest(found.losses), newest(naive.losses).filter(model="naive_weekly"))
    assert found.diagnostics["period"] == key
    assert found.diagnostics["baseline"] == name
    assert evaluate_baseline(stream, baseline, data).scores.equals(rows)


def test_options_reach_the_baseline(make_stream: Any, make_history: Any) -> None:
    stream = make_stream()
    data = make_history(stream)["2024-01-01"]
    configs = [BaselineConfig.model_validate({"name": "var", **more}) for more in ({}, {"lags": 1}, {"ridge": 5})]
    headlines = {
        evaluate_baseline(stream, config, data).scores.filter(metric="mae", horizon="at:1", cohort="all")["value"][0]
        for config in configs
    }
    assert len(headlines) == 3
