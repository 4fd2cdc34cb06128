"""The rows of a trial are means over the cells that all have, and its intervals are as wide as what was missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from st_pipeline.forecasting.cold_start import Trial
from st_pipeline.forecasting.cold_start_curve import cold_coverage, cold_intervals, curve, expectation
from st_pipeline.forecasting.conformal import Residuals

DAY, ISSUES, STEPS, SENSORS = 24, 60, 3, 4


@pytest.fixture
def trial() -> Trial:
    """Errors of 8 and 2 by age, 4 of the weekly naive, 1 of known sensors, with random signs."""
    random = np.random.default_rng(0)
    shape = (ISSUES, STEPS, SENSORS)
    truth = random.uniform(50, 100, shape).astype(np.float32)

    def off(size: float) -> Any:
        return (truth + size * random.choice([-1, 1], shape)).astype(np.float32)

    slot = (np.arange(ISSUES)[:, None] + np.arange(STEPS)) % (7 * DAY)
    return Trial((0, 3), tuple("abcd"), np.stack([off(8), off(2)]), off(1), off(4), truth, slot)


@pytest.fixture
def known(trial: Trial) -> Residuals:
    points = trial.known.astype(np.float64)
    scored = np.ones(points.shape, dtype=bool)
    return Residuals(points, trial.truth.astype(np.float64), scored, trial.slot, ("p", "q", "r", "s"))


def test_rows_are_means_and_ratios_with_their_counts(trial: Trial, known: Residuals) -> None:
    rows = curve(trial, known, steps_per_day=DAY)
    assert [row["days"] for row in rows] == [0, 3]
    for row, mae in zip(rows, (8, 2), strict=True):
        assert row["mae"] == pytest.approx(mae, rel=1e-4)
        assert row["times_weekly"] == pytest.approx(mae / 4, rel=1e-4)
        assert row["times_known"] == pytest.approx(mae, rel=1e-4)
        assert (row["low"], row["high"]) == pytest.approx((mae / 4, mae / 4), rel=1e-3)
        assert (row["sensors"], row["forecasts"], row["cells"]) == (4, ISSUES * 4, ISSUES * 4 * STEPS)
    assert rows[0]["coverage"] == rows[1]["coverage"] == 0  # known sensors miss by 1
    (as_known,) = curve(replace(trial, ages=(7,), points=trial.known[None]), known, steps_per_day=DAY)
    assert as_known["coverage"] > 0.85


def test_cells_that_one_of_them_has_not_count_for_nobody(trial: Trial, known: Residuals) -> None:
    points, weekly, truth = trial.points.copy(), trial.weekly.copy(), trial.truth.copy()
    points[0, :, :, 0], weekly[:5], truth[5:7, 0] = np.nan, np.nan, np.nan
    first, second = curve(replace(trial, points=points, weekly=weekly, truth=truth), known, steps_per_day=DAY)
    assert (first["sensors"], second["sensors"]) == (3, 4)
    assert first["cells"] == 3 * ((ISSUES - 5) * STEPS - 2)
    assert first["forecasts"] == 3 * (ISSUES - 5)
    assert first["mae"] == pytest.approx(8, rel=1e-4)


def test_an_age_of_which_nothing_is_known_says_so(trial: Trial, known: Residuals) -> None:
    points = trial.points.copy()
    points[0] = np.nan
    nothing = replace(trial, points=points)
    first, second = curve(nothing, known, steps_per_day=DAY)
    assert first["mae"] is None and first["times_weekly"] is None and first["cells"] == 0
    assert expectation([first, second], 0, "km/h") == ""
    assert cold_coverage(nothing, steps_per_day=DAY) is None


def test_the_expectation_is_a_sentence_with_its_spread(trial: Trial, known: Residuals) -> None:
    rows = curve(trial, known, steps_per_day=DAY)
    told = expectation(rows, 3, "km/h")
    assert told.startswith("after 3 days of readings expect a mean absolute error of about 2 km/h: 0.50 times")
    assert "half of 4 hidden sensors: 0.50 to 0.50" in told
    assert expectation(rows, 0, "").startswith("without any reading expect a mean absolute error of about 8: 2.00")
    assert expectation(rows, 5, "") == ""


def test_intervals_of_a_place_are_as_wide_as_hidden_sensors_were_missed(trial: Trial) -> None:
    intervals = cold_intervals(trial, steps_per_day=DAY)
    low, high = (intervals.quantiles(np.full((STEPS, 1), 75.0), trial.slot[0])[..., place] for place in (0, -1))
    assert ((high - low > 12) & (high - low < 24)).all()
    shares = cold_coverage(trial, steps_per_day=DAY)
    assert shares is not None and 0.85 <= shares <= 1
    assert cold_coverage(trial.of_sensors([0]), steps_per_day=DAY) is None
