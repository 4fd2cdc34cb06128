"""The traffic of every day of a scenario, strung together as one timeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from st_pipeline.simulation.demand import DAY_SLICES, SLICE_MINUTES, WARM_UP_SLICES, daily_arrivals
from st_pipeline.simulation.network import City, measurable_cells
from st_pipeline.simulation.scenario import Scenario
from st_pipeline.simulation.supply import SERIES, Closure, Supply, incidents, restless, wet_days
from st_pipeline.simulation.traffic import Floats, Ints, run

STEP_S = 25.0  # of the traffic model
BEFORE = DAY_SLICES - 3 * 60 // SLICE_MINUTES  # slices from 03:00 to midnight


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Traffic at some cells, slice by slice from 03:00 on the day before the stream starts."""

    cells: Ints  # (W,) ascending
    passed: Floats  # (slices, W) vehicles that left the cell
    held: Floats  # (slices, W) vehicles in the cell, on average

    def period(self, period: int, *, cells: Ints, scenario: Scenario) -> tuple[Floats, Floats]:
        """Vehicles passed and held in every step of a period at S of the cells, each (L, S)."""
        size = scenario.days * DAY_SLICES
        first = BEFORE + period * size
        columns = np.searchsorted(self.cells, cells)
        shape = (scenario.steps, scenario.step_minutes // SLICE_MINUTES, len(cells))
        passed = self.passed[first : first + size, columns].reshape(shape)
        return passed.sum(axis=1), self.held[first : first + size, columns].reshape(shape).mean(axis=1)


def drive(scenario: Scenario, network: City, *, cells: Ints) -> Timeline:
    """Drive every day of the stream, and the day before it, and watch W cells (ascending)."""
    arrivals, supply = conditions(scenario, network)
    record = run(
        network.roads,
        arrivals=arrivals,
        origins=np.array([origin.cell for origin in network.origins]),
        watch=cells,
        slice_steps=round(SLICE_MINUTES * 60 / STEP_S),
        step=STEP_S,
        capacity_left=supply,
    )
    passed, held = (
        values[WARM_UP_SLICES:].transpose(2, 0, 1).reshape(-1, len(cells)) for values in (record.flow, record.held)
    )
    return Timeline(cells=cells, passed=passed, held=held)


def conditions(scenario: Scenario, network: City) -> tuple[Floats, Supply]:
    """Arrivals (K, O, D) and what the roads can carry on all days, drawn period by period.

    Demand grows day by day; every origin has its own trend round that of the scenario.
    """
    trend = scenario.demand_growth * (1 + 0.8 * scenario.rng("trend").standard_normal(len(network.origins)))
    per_day = scenario.incidents_per_day * len(network.measurable) / measurable_cells(5)
    arrivals, weather, places = [], [], []
    closures: list[Closure] = []
    begun = 0
    for period in range(scenario.periods):
        days = np.arange(begun, begun + scenario.days + (period == 0))
        dates = [scenario.start + timedelta(days=day - 1) for day in days.tolist()]
        growth = np.maximum(1 + trend[:, None] * np.maximum(days - 1, 0) / scenario.days, 0.2)
        rng = scenario.rng("supply", period)
        arrivals.append(daily_arrivals(network, dates, growth=growth, rng=scenario.rng("demand", period)))
        weather.append(wet_days(len(days), rng))
        places.append(rng.integers(SERIES, size=(len(days), len(network.roads.length))).T)
        drawn = incidents(network, len(days), per_day=per_day, rng=rng)
        closures += [replace(closure, day=closure.day + begun) for closure in drawn]
        begun += len(days)
    series = restless(scenario.rng("restless"))
    place = np.concatenate(places, axis=1)
    supply = Supply(weather=np.concatenate(weather), series=series, place=place, closures=closures)
    return np.concatenate(arrivals, axis=2), supply
