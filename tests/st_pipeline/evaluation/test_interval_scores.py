"""Coverage counts what is scored; the pinball loss is least at the quantile."""

from __future__ import annotations

import numpy as np
import pytest
import xarray
from scores.continuous import quantile_score

from st_pipeline.evaluation.interval_scores import coverage, pinball

TRUTH = np.array([[1.0, 2.0], [3.0, np.nan]])
SCORED = np.array([[True, True], [True, False]])


def test_coverage_counts_both_ends_and_leaves_out_what_is_not_scored() -> None:
    low, high = np.array([[1.0, 2.5], [0.0, 0.0]]), np.array([[1.0, 9.0], [3.0, 9.0]])
    assert coverage(low, high, TRUTH, SCORED) == pytest.approx(2 / 3)
    assert coverage(low, high, TRUTH, SCORED, axis=0).tolist() == [1.0, 0.0]
    assert coverage(low, high, TRUTH, SCORED, axis=1).tolist() == [0.5, 1.0]


def test_a_cell_without_an_interval_is_not_covered_and_none_scored_is_no_share() -> None:
    nothing = np.full((2, 2), np.nan)
    assert coverage(nothing, nothing, TRUTH, SCORED) == 0
    assert np.isnan(coverage(nothing, nothing, TRUTH, np.zeros((2, 2), dtype=bool)))
    assert np.isnan(pinball(nothing[..., None], TRUTH, np.zeros((2, 2), dtype=bool), (0.5,))).all()


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_pinball_agrees_with_the_scores_package(level: float) -> None:
    random = np.random.default_rng(0)
    truth, forecast = random.normal(size=(2, 50))
    theirs = quantile_score(xarray.DataArray(forecast), xarray.DataArray(truth), level)
    ours = pinball(forecast[:, None], truth, np.ones(50, dtype=bool), (level,))
    assert ours == pytest.approx(np.array([float(theirs)]))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_pinball_is_least_at_the_quantile(level: float) -> None:
    truth = np.random.default_rng(1).exponential(size=1001)
    best = np.quantile(truth, level)
    losses = [
        pinball(np.full((1001, 1), best + off), truth, np.ones(1001, dtype=bool), (level,))[0] for off in (0, -0.2, 0.2)
    ]
    assert losses[0] < min(losses[1:])
