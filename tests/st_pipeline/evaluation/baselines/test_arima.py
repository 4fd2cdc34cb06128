"""ARIMA forecasts are statsmodels' own, made in one pass; what cannot be fitted is said and forecast as its average."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.tsa.statespace.sarimax import SARIMAX

from st_pipeline.evaluation.baselines import arima as module
from st_pipeline.evaluation.baselines import baselines
from st_pipeline.evaluation.baselines.base import Panel

LENGTH, TRAIN, HORIZON = 400, 240, 7


def series(seed: int = 0, missing: float = 0.0) -> NDArray[np.float64]:
    """(L, 2) of an autoregression around a daily wave, standardised as a panel is."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(LENGTH, 2))
    values = np.zeros((LENGTH, 2))
    for step in range(1, LENGTH):
        values[step] = 0.8 * values[step - 1] + noise[step] + 0.3 * noise[step - 1]
    values += 2 * np.sin(2 * np.pi * np.arange(LENGTH) / 24)[:, None]
    values[random.random(values.shape) < missing] = np.nan
    return (values - np.nanmean(values[:TRAIN], axis=0)) / np.nanstd(values[:TRAIN], axis=0)


def fitted(values: NDArray[np.float64], **options: Any) -> Any:
    panel = Panel(values, train=TRAIN, horizon=HORIZON, day=24)
    return baselines.build({"name": "arima", **options}, panel=panel)


@pytest.mark.filterwarnings("ignore:Non-invertible starting MA parameters")
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("order", [[3, 0, 1], [1, 0, 0], [0, 0, 2], [1, 1, 1], [0, 0, 0]])
def test_forecasts_are_those_of_statsmodels_from_each_issue_time(order: list[int], missing: float) -> None:
    values = series(missing=missing)
    issued = np.array([TRAIN, TRAIN + 31, LENGTH - HORIZON - 1])
    found = fitted(values, order=order).forecasts(issued)
    assert found.shape == (3, HORIZON, 2)
    for column in range(2):
        own = SARIMAX(values[:TRAIN, column], order=order).fit(disp=0, maxiter=module.ITERATIONS)
        for window, step in enumerate(issued):
            expected = own.apply(values[: step + 1, column]).forecast(HORIZON)
            np.testing.assert_allclose(found[window, :, column], expected, rtol=1e-8, atol=1e-10)


def test_the_published_order_is_the_default() -> None:
    values, issued = series()[:, :1], np.array([TRAIN])
    np.testing.assert_array_equal(fitted(values).forecasts(issued), fitted(values, order=[3, 0, 1]).forecasts(issued))


def test_an_autoregression_is_forecast_by_its_own_coefficient() -> None:
    random = np.random.default_rng(1)
    values = np.zeros((LENGTH, 1))
    for step in range(1, LENGTH):
        values[step] = 0.9 * values[step - 1] + random.normal()
    found = fitted(values, order=[1, 0, 0]).forecasts(np.arange(TRAIN, LENGTH - HORIZON))[..., 0]
    ratio = found[:, 1:] / found[:, :-1]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-8)
    assert ratio[0, 0] == pytest.approx(0.9, abs=0.1)


def test_parameters_come_from_the_training_part_alone() -> None:
    values = series()[:, :1]
    changed = values.copy()
    changed[TRAIN:] = np.random.default_rng(3).normal(0, 50, changed[TRAIN:].shape)
    before, after = (fitted(one).forecasts(np.array([TRAIN - 1])) for one in (values, changed))
    np.testing.assert_array_equal(before, after)


def test_a_gap_is_gone_through_and_the_forecast_returns_to_the_average() -> None:
    values = series()
    values[TRAIN : TRAIN + 100] = np.nan
    found = fitted(values).forecasts(np.array([TRAIN + 99]))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 0.5


def test_a_sensor_with_too_few_training_cells_is_not_fitted() -> None:
    values = series()
    values[24:TRAIN, 1] = np.nan
    made = fitted(values)
    assert made.notes == {1: "its average: 24 observed training cells, ARIMA needs 25"}
    assert made.facts == {"order": [3, 0, 1], "fitted": 1}
    found = made.forecasts(np.array([TRAIN, TRAIN + 5]))
    assert not found[..., 1].any()
    assert found[..., 0].all()


def test_a_search_that_does_not_converge_is_said_and_its_parameters_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ITERATIONS", 1)
    made = fitted(series())
    assert made.notes == dict.fromkeys(range(2), "ARIMA, whose parameters had not converged after 1 iterations")
    assert made.forecasts(np.array([TRAIN])).all()


def test_a_fit_that_breaks_down_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise np.linalg.LinAlgError("Schur decomposition\n solver error.")

    monkeypatch.setattr(SARIMAX, "fit", broken)
    made = fitted(series())
    assert made.notes[0] == "its average: no fit, Schur decomposition solver error."
    assert not made.forecasts(np.array([TRAIN])).any()


@pytest.mark.parametrize("kind", ["steps", "spike", "ramp", "alternating", "nearly_constant"])
def test_no_series_takes_the_fit_down(kind: str) -> None:
    step = np.arange(LENGTH, dtype=np.float64)
    values = {
        "steps": np.floor(step / 100),
        "spike": np.where(step == 50, 15.0, -0.06),
        "ramp": step / 100 - 1.2,
        "alternating": np.where(step % 2, 1.0, -1.0),
        "nearly_constant": np.where(step < 3, 9.0, 1e-12 * step),
    }[kind]
    assert np.isfinite(fitted(values[:, None]).forecasts(np.arange(TRAIN, LENGTH - HORIZON))).all()
