"""What the roads can carry: weather, restlessness and incidents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from st_pipeline.simulation import Scenario
from st_pipeline.simulation.network import build_city
from st_pipeline.simulation.supply import Closure, Supply, incidents, restless, wet_days
from st_pipeline.simulation.timeline import conditions
from st_pipeline.simulation.traffic import run


def test_capacity_wavers_below_its_nominal_value() -> None:
    series = restless(np.random.default_rng(0))
    assert series.min() >= 0.8
    assert series.max() <= 1.0
    assert series.std() > 0.02


def test_some_days_are_wet() -> None:
    weather = wet_days(400, np.random.default_rng(0))
    assert 0.15 < (weather < 1).mean() < 0.35
    assert weather.min() > 0.85


def test_a_closure_touches_its_own_cell_day_and_time_only() -> None:
    closure = Closure(cell=2, day=1, start=10, stop=13, remaining=0.4)
    place = np.zeros((4, 3), dtype=np.int64)
    supply = Supply(weather=np.array([1.0, 0.9, 1.0]), series=np.ones(7), place=place, closures=[closure])
    for index in range(20):
        expected = np.tile([1.0, 0.9, 1.0], (4, 1))
        expected[2, 1] *= 0.4 if 10 <= index < 13 else 1.0
        np.testing.assert_allclose(supply(index), expected)


def test_incidents_hit_main_cells_by_day_for_a_limited_time() -> None:
    city = build_city(3, np.random.default_rng(0))
    found = incidents(city, 100, per_day=3.0, rng=np.random.default_rng(1))
    assert 240 < len(found) < 360
    assert {city.cells["kind"][closure.cell] for closure in found} == {"mainline"}
    assert all(3 <= closure.stop - closure.start <= 36 for closure in found)
    assert all(0.2 <= closure.remaining <= 0.65 for closure in found)
    assert len({closure.day for closure in found}) > 80


def test_an_incident_in_the_city_congests_the_road_behind_it_and_not_the_road_ahead() -> None:
    scenario = Scenario(periods=1, days=1, sensors=8, incidents_per_day=0.0)
    city = build_city(3, np.random.default_rng(2))
    ring = city.cells.filter((pl.col("direction") == "clockwise") & (pl.col("kind") == "mainline"))["cell"].to_numpy()
    arrivals, plain = conditions(scenario, city)
    closure = Closure(cell=int(ring[12]), day=1, start=120, stop=138, remaining=0.25)  # 12:00 to 13:30
    origins = np.array([origin.cell for origin in city.origins])
    fixed = {"arrivals": arrivals, "origins": origins, "watch": ring, "slice_steps": 12, "step": 25.0}
    free, hurt = (
        run(city.roads, capacity_left=supply, **fixed).held[:, :, 1]
        for supply in (plain, replace(plain, closures=[closure]))
    )
    assert (hurt[137, 8:12] > 2.5 * free[137, 8:12]).all()
    assert (hurt[137, 13:17] < free[137, 13:17]).all()
    np.testing.assert_allclose(hurt[:120], free[:120])
