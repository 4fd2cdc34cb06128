"""Tests of differences: the published formulas, and the error rates that they promise."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import lfilter
from scores.stats import statistical_tests as oracle

from st_pipeline.errors import InputError
from st_pipeline.evaluation.significance import diebold_mariano, friedman, holm, nemenyi_difference

Array = NDArray[np.float64]


def differentials(
    generator: np.random.Generator, *, windows: int, overlap: int, persistence: float, count: int = 1
) -> list[Array]:
    """Series of mean zero: what an AR(1) process does to forecasts that share `overlap` steps."""
    noise = generator.normal(size=(count, windows + overlap + 99))
    process = lfilter([1.0], [1.0, -persistence], noise)[:, 100:]
    return [np.convolve(row, np.full(overlap, 1 / overlap), "valid") for row in process]


@pytest.mark.parametrize("horizon", [1, 2, 6, 12])
@pytest.mark.parametrize("seed", range(5))
def test_diebold_mariano_agrees_with_the_reference_library(horizon: int, seed: int) -> None:
    [series] = differentials(np.random.default_rng(seed), windows=150, overlap=horizon, persistence=0.2)
    series = series + 0.1
    rows = xr.DataArray(series[None], dims=["lead", "time"], coords={"lead": [1], "h": ("lead", [horizon])})
    expected = oracle.diebold_mariano(rows, "lead", "h", method="HLN", statistic_distribution="t")
    found = diebold_mariano(series, horizon=horizon)
    below = float(expected["confidence_gt_0"][0])
    assert found.kernel == "rectangular"
    assert found.statistic == pytest.approx(float(expected["dm_test_stat"][0]), rel=1e-9)
    assert found.p_value == pytest.approx(2 * min(below, 1 - below), rel=1e-7)
    assert found.mean == pytest.approx(series.mean())


def test_autocovariances_stay_within_a_period() -> None:
    periods = [np.array([1.0, 3.0, 2.0, 4.0]), np.array([2.5]), np.array([-1.0, 0.5, 1.0])]
    every, horizon = np.concatenate(periods), 3
    n, mean = len(every), every.mean()
    owner = np.repeat(range(3), [len(part) for part in periods])
    variance = correction = 0.0
    for one, other in product(range(n), repeat=2):
        if abs(one - other) < horizon and owner[one] == owner[other]:
            variance += (every[one] - mean) * (every[other] - mean) / n**2
            correction -= 1 / n**2
    assert variance > 0
    found = diebold_mariano(periods, horizon=horizon)
    assert found.statistic == pytest.approx(mean / np.sqrt(variance) * np.sqrt(1 + correction))
    assert found.statistic != pytest.approx(diebold_mariano(every, horizon=horizon).statistic)


def test_the_other_way_round_the_statistic_changes_its_sign() -> None:
    [series] = differentials(np.random.default_rng(0), windows=80, overlap=3, persistence=0.2)
    one, other = diebold_mariano(series, horizon=3), diebold_mariano(-7 * series, horizon=3)
    assert other.statistic == pytest.approx(-one.statistic) and other.p_value == pytest.approx(one.p_value)


def test_a_variance_that_is_not_positive_takes_bartlett_weights() -> None:
    series = np.tile([1.0, -0.9], 20)
    found = diebold_mariano(series, horizon=2)
    gamma = [((series - 0.05)[lag:] * (series - 0.05)[: 40 - lag]).mean() * (40 - lag) / 40 for lag in (0, 1)]
    assert gamma[0] + 2 * gamma[1] < 0
    assert found.kernel == "bartlett"
    correction = (40 - 1 - 39 / 40) / 40  # the lag of 39 pairs weighs 2 * 1/2
    assert found.statistic == pytest.approx(0.05 * np.sqrt(correction * 40 / (gamma[0] + gamma[1])))
    assert 0 < found.p_value < 1


def test_no_difference_at_all_is_no_evidence() -> None:
    found = diebold_mariano([np.zeros(20), np.zeros(5)], horizon=6)
    assert (found.statistic, found.p_value, found.mean) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_same_difference_in_every_window_is_certain(sign: int) -> None:
    found = diebold_mariano(np.full(20, sign * 0.5), horizon=3)
    assert found.statistic == sign * np.inf and found.p_value == 0.0


@pytest.mark.parametrize(
    ("series", "horizon", "what"),
    [
        ([np.array([0.3])], 1, "1 windows cannot be tested at horizon 1"),
        ([], 1, "0 windows"),
        ([np.ones(6), np.ones(6)], 12, "12 windows cannot be tested at horizon 12"),
        (np.ones(5), 0, "horizon of at least 1"),
        (np.array([1.0, np.nan, 2.0]), 1, "1 values of 3 that are not finite"),
        (np.ones((4, 2)), 1, "more than one axis"),
    ],
)
def test_what_cannot_be_tested_is_refused(series: Array | list[Array], horizon: int, what: str) -> None:
    with pytest.raises(InputError, match=what):
        diebold_mariano(series, horizon=horizon)


@pytest.mark.parametrize(
    ("windows", "overlap", "persistence", "periods"), [(300, 1, 0.0, 1), (600, 6, 0.2, 1), (200, 6, 0.2, 4)]
)
def test_equal_models_differ_at_the_nominal_rate(windows: int, overlap: int, persistence: float, periods: int) -> None:
    generator = np.random.default_rng(7)
    setting = {"windows": windows, "overlap": overlap, "persistence": persistence, "count": periods}
    found = [diebold_mariano(differentials(generator, **setting), horizon=overlap).p_value < 0.05 for _ in range(700)]
    assert 0.03 < np.mean(found) < 0.08


def test_a_planted_difference_is_found() -> None:
    generator = np.random.default_rng(7)
    found = []
    for _ in range(200):
        [series] = differentials(generator, windows=600, overlap=6, persistence=0.2)
        result = diebold_mariano(series + 0.25, horizon=6)
        found.append(result.p_value < 0.05 and result.statistic > 0)
    assert np.mean(found) > 0.95


def test_holm_worked_out_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: list[float], significance: float) -> None:
    expected = np.zeros(len(p_values), bool)
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (len(p_values) - step) > significance:
            break
        expected[index] = True
    np.testing.assert_array_equal(holm(p_values) <= significance, expected)


@pytest.mark.parametrize("p_values", [[0.1, float("nan")], [1.2], [-0.1]])
def test_holm_refuses_what_is_no_probability(p_values: list[float]) -> None:
    with pytest.raises(InputError, match="not within 0 and 1"):
        holm(p_values)


def test_after_holm_a_family_of_equal_models_is_rarely_wrong() -> None:
    generator = np.random.default_rng(11)
    wrong = []
    for _ in range(300):
        shared, *models = differentials(generator, windows=400, overlap=3, persistence=0.2, count=11)
        wrong.append(min(holm([diebold_mariano(own - shared, horizon=3).p_value for own in models])) < 0.05)
    assert np.mean(wrong) < 0.08


@pytest.mark.parametrize("seed", range(4))
def test_friedman_agrees_with_scipy_ties_or_not(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for errors in (generator.normal(size=(6, 4)), generator.integers(0, 3, size=(9, 5)).astype(float)):
        expected = scipy.stats.friedmanchisquare(*errors.T)
        found = friedman(errors)
        assert found.statistic == pytest.approx(expected.statistic)
        assert found.p_value == pytest.approx(expected.pvalue)
        np.testing.assert_allclose(found.mean_ranks, scipy.stats.rankdata(errors, axis=1).mean(axis=0))


def test_models_that_are_the_same_share_one_rank() -> None:
    found = friedman(np.ones((3, 4)))
    assert (found.statistic, found.p_value) == (0.0, 1.0)
    np.testing.assert_array_equal(found.mean_ranks, 2.5)


@pytest.mark.parametrize("errors", [np.ones((1, 4)), np.ones((4, 1)), np.ones(4), np.empty((0, 3))])
def test_one_stream_has_no_ranks_to_compare(errors: Array) -> None:
    with pytest.raises(InputError, match="at least 2 of each: run more streams"):
        friedman(errors)


def test_a_missing_error_has_no_rank() -> None:
    with pytest.raises(InputError, match="1 values of 4 that are not finite"):
        friedman([[1.0, 2.0], [np.nan, 1.0]])


@pytest.mark.parametrize(("models", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_demsar(models: int, quantile: float) -> None:
    scale = np.sqrt(models * (models + 1) / (6 * 14))
    assert nemenyi_difference(models, 14) / scale == pytest.approx(quantile, abs=0.001)


def test_a_critical_difference_needs_models_streams_and_a_confidence() -> None:
    assert nemenyi_difference(5, 10, 0.9) < nemenyi_difference(5, 10, 0.95) < nemenyi_difference(5, 5, 0.95)
    for models, streams in ((1, 5), (5, 1)):
        with pytest.raises(InputError, match="at least 2 of each"):
            nemenyi_difference(models, streams)
    with pytest.raises(InputError, match=r"level is 0\.05; expected a confidence"):
        nemenyi_difference(5, 10, 0.05)
