"""Loop detectors: their lives in a network that grows, and what they measure.

A detector is bought with an id, lies in a cell, and may be retired, fall silent for a period, or be moved to another
cell. In every later period `growth` detectors are new; one or more are retired on a day of the period; in odd periods
(counted from 0) one is silent throughout; in even ones one has been moved on the first day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from st_pipeline.simulation.network import City
from st_pipeline.simulation.scenario import Scenario
from st_pipeline.simulation.traffic import Floats

NO_VEHICLE = -1.0  # speed when nothing has passed
CONNECTOR_ODDS = 0.4  # of a connector to get a detector, against a main cell
IDS = 4999


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One sensor, its places and the dates of its life; `retired` is the first day without it."""

    sensor_id: str
    cell: int
    installed: date
    gain: float  # vehicles counted per vehicle passed
    bias: float  # km/h shown per km/h driven
    retired: date | None = None
    moved_on: date | None = None
    moved_to: int = -1
    silent: tuple[int, ...] = ()  # periods

    @property
    def cells(self) -> list[int]:
        """The cells it ever lies in, the last one last."""
        return [self.cell] if self.moved_on is None else [self.cell, self.moved_to]

    def cell_on(self, day: date) -> int:
        return self.moved_to if self.moved_on is not None and day >= self.moved_on else self.cell

    def alive(self, begin: date, end: date) -> bool:
        """Whether it is in place on some day from `begin` to before `end`."""
        return self.installed < end and (self.retired is None or self.retired > begin)


def install(city: City, scenario: Scenario) -> list[Detector]:
    """All detectors that ever exist, ordered by id."""
    rng = scenario.rng("sites")
    kinds = city.cells["kind"].to_numpy()[city.measurable]
    odds = np.where(kinds == "connector", CONNECTOR_ODDS, 1.0)
    sites = rng.choice(city.measurable, size=len(odds), replace=False, p=odds / odds.sum()).tolist()
    numbers = (scenario.rng("ids").permutation(IDS) + 1).tolist()
    found: list[Detector] = []
    for period in range(scenario.periods):
        rng = scenario.rng("lives", period)
        if period:
            found = _change(found, sites, city, scenario, period, rng)
        for _ in range(scenario.growth if period else scenario.sensors):
            age = 0 if period else int(rng.integers(100, 3000))
            begin = scenario.period_start(period) - timedelta(days=age)
            gain, bias = rng.normal(1.0, [0.015, 0.015]).tolist()
            name = f"{numbers.pop(0):04d}"
            found.append(Detector(sensor_id=name, cell=sites.pop(0), installed=begin, gain=gain, bias=bias))
    return sorted(found, key=lambda detector: detector.sensor_id)


def _change(
    found: list[Detector], sites: list[int], city: City, scenario: Scenario, period: int, rng: np.random.Generator
) -> list[Detector]:
    """The detectors of the periods before, with what befalls them in this one; a new site is taken from `sites`."""
    plain = [i for i, one in enumerate(found) if one.retired is None and one.moved_on is None and not one.silent]
    chosen = rng.permutation(plain).tolist()
    retiring = max(1, scenario.growth // 4) if scenario.growth > 1 else 0
    if len(chosen) < retiring + 3:
        return found
    changed = list(found)
    begin = scenario.period_start(period)
    for _ in range(retiring):
        day = begin + timedelta(days=int(rng.integers(scenario.days // 4, scenario.days * 3 // 4 + 1)))
        index = chosen.pop()
        changed[index] = replace(found[index], retired=min(day, scenario.period_start(period + 1)))
    index = chosen.pop()
    if period % 2:
        changed[index] = replace(found[index], silent=(period,))
    else:
        site = _nearest(city, found[index].cell, sites)
        sites.remove(site)
        changed[index] = replace(found[index], moved_on=begin, moved_to=site)
    return changed


def _nearest(city: City, cell: int, sites: list[int]) -> int:
    """The free site nearest to a cell, on the same carriageway if there is one."""
    places = city.cells.select("x_m", "y_m").to_numpy()
    ways = city.cells.select("road", "direction").rows()
    elsewhere = np.array([ways[site] != ways[cell] for site in sites])
    return sites[int(np.argmin(np.hypot(*(places[sites] - places[cell]).T) + 1e6 * elsewhere))]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the detectors of one period measure, arrays of steps by detectors (L, S)."""

    period: int
    detectors: tuple[Detector, ...]
    alive: NDArray[np.bool_]
    flow: Floats  # veh/h
    speed: Floats  # km/h, NO_VEHICLE where flow is 0


def measure(
    passed: Floats,
    held: Floats,
    *,
    gain: Floats,
    bias: Floats,
    capacity: Floats,
    length: Floats,
    hours: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Flow in veh/h and speed in km/h, each (L, S), from the vehicles that passed a cell and those it held on average.

    Per detector (S,): `gain` and `bias`, `capacity` in veh/h and `length` in metres of its cell. `hours` is the length
    of a step. Counts are whole: Poisson when few vehicles pass, steadier near capacity, where vehicles follow each
    other at even headways. Drivers slow down a little as a road fills, which the triangular diagram leaves out.
    """
    expected = passed * gain
    spread = np.sqrt(expected * np.maximum(1 - expected / (1.2 * capacity * hours), 0.1))
    counts = np.maximum(np.rint(expected + spread * rng.standard_normal(passed.shape)), 0.0)
    few = expected < 20
    counts[few] = rng.poisson(expected[few])
    driven = passed / hours / np.maximum(held, 1e-9) * length / 1000
    driven = driven * bias * (1 - 0.09 * (passed / hours / capacity) ** 2)
    noise = rng.standard_normal(passed.shape) * (driven * 0.11 / np.sqrt(np.maximum(counts, 1)) + 1.2)
    speed = np.where(counts > 0, np.clip(np.round(driven + noise, 1), 1.0, 180.0), NO_VEHICLE)
    return counts / hours, speed
