"""Days strung together: hours and periods are where the calendar has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from st_pipeline.simulation import Scenario
from st_pipeline.simulation.network import City, build_city
from st_pipeline.simulation.timeline import Timeline, conditions, drive

SCENARIO = Scenario(periods=2, days=7, sensors=8, incidents_per_day=0.0)


@pytest.fixture(scope="module")
def city() -> City:
    return build_city(3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def timeline(city: City) -> Timeline:
    inbound = city.cells.filter((pl.col("direction") == "inbound") & (pl.col("kind") == "mainline"))["cell"]
    return drive(SCENARIO, city, cells=inbound.to_numpy())


def test_the_morning_peak_into_the_city_is_in_the_morning(timeline: Timeline) -> None:
    passed, held = timeline.period(0, cells=timeline.cells, scenario=SCENARIO)
    assert passed.shape == held.shape == (SCENARIO.steps, len(timeline.cells))
    tuesday = passed[288:576, :8].mean(axis=1)  # the first Monday is a holiday
    hourly = tuesday.reshape(24, 12).mean(axis=1)
    assert hourly[7] > 1.15 * max(hourly[4:6].max(), hourly[10:16].max())
    assert 1 <= np.argmin(hourly) <= 4


def test_periods_join_without_a_gap(timeline: Timeline) -> None:
    whole = replace(SCENARIO, periods=1, days=14)
    joined = np.concatenate([timeline.period(p, cells=timeline.cells, scenario=SCENARIO)[0] for p in (0, 1)])
    np.testing.assert_array_equal(joined, timeline.period(0, cells=timeline.cells, scenario=whole)[0])


def test_steps_sum_vehicles_that_pass_and_average_vehicles_held(timeline: Timeline) -> None:
    hourly = replace(SCENARIO, step_minutes=60)
    cells = timeline.cells[[4, 1]]
    for number, merge in enumerate((np.sum, np.mean)):
        fine, coarse = (timeline.period(1, cells=cells, scenario=s)[number] for s in (SCENARIO, hourly))
        np.testing.assert_allclose(coarse[5], merge(fine[60:72], axis=0))


def test_more_periods_do_not_change_the_days_before(city: City) -> None:
    arrivals, supply = conditions(SCENARIO, city)
    more_arrivals, more_supply = conditions(replace(SCENARIO, periods=3), city)
    days = arrivals.shape[2]
    np.testing.assert_array_equal(more_arrivals[:, :, :days], arrivals)
    np.testing.assert_array_equal(more_supply(100)[:, :days], supply(100))


def test_demand_growth_adds_vehicles(city: City) -> None:
    shrinking, growing = (
        conditions(replace(SCENARIO, periods=4, demand_growth=growth), city)[0] for growth in (-0.1, 0.1)
    )
    assert growing[:, :, -7:].sum() > 1.3 * shrinking[:, :, -7:].sum()
    np.testing.assert_array_equal(growing[:, :, 0], shrinking[:, :, 0])
