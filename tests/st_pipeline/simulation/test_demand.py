"""Demand has the shape of days and weeks."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from st_pipeline.simulation.demand import HOLIDAY, HOURS, daily_arrivals, day_to_day, day_type, profile, within_day
from st_pipeline.simulation.network import build_city

MORNING, EVENING, NOON = (abs(HOURS - middle) < 1.5 for middle in (8, 17, 12))


def test_holidays_are_told_from_working_days() -> None:
    assert day_type(date(2024, 1, 1)) == HOLIDAY
    assert day_type(date(2024, 1, 2)) == 1
    assert day_type(date(2024, 1, 7)) == 6


@pytest.mark.parametrize("day", range(5))
@pytest.mark.parametrize(("kind", "leads"), [("inbound", MORNING), ("outbound", EVENING)])
def test_working_days_have_a_peak_in_the_direction_of_work(kind: str, leads: np.ndarray, day: int) -> None:
    demand = profile(kind, day)
    other = EVENING if leads is MORNING else MORNING
    assert demand[leads].max() > 1.2 * demand[other].max()
    assert demand[other].max() > demand[NOON].mean()


@pytest.mark.parametrize("kind", ["inbound", "outbound", "local"])
@pytest.mark.parametrize("day", [5, 6, HOLIDAY])
def test_free_days_are_quieter_and_have_no_morning_peak(kind: str, day: int) -> None:
    free, working = profile(kind, day), profile(kind, 2)
    assert free.sum() < 0.9 * working.sum()
    assert free[MORNING].max() < free[NOON].max()


@pytest.mark.parametrize("kind", ["inbound", "outbound", "local"])
@pytest.mark.parametrize("day", range(8))
def test_nights_are_quiet_but_not_dead(kind: str, day: int) -> None:
    demand = profile(kind, day)
    assert 0 < demand.min() < 0.05
    assert demand[HOURS < 4].max() < 0.25 * demand.max()


def test_arrivals_scale_with_growth() -> None:
    city = build_city(3, np.random.default_rng(0))
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(7)]
    growth = np.ones((len(city.origins), len(days)))
    plain, grown = (
        daily_arrivals(city, days, growth=growth * factor, rng=np.random.default_rng(5)) for factor in (1.0, 1.25)
    )
    assert plain.min() > 0
    assert plain.shape == (len(HOURS), len(city.origins), len(days))
    assert 1.2 < grown.sum() / plain.sum() <= 1.25


def test_random_levels_are_slow_and_centred() -> None:
    rng = np.random.default_rng(6)
    assert day_to_day(30, 200, rng).mean() == pytest.approx(1.0, abs=0.02)
    level = within_day(10, 50, rng)
    assert level.mean() == pytest.approx(1.0, abs=0.01)
    assert np.abs(np.diff(level, axis=0)).mean() < 0.3 * level.std()
