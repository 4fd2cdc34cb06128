"""What the roads can carry from one moment to the next: wet days, restless drivers, incidents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st_pipeline.simulation.demand import SLICE_MINUTES
from st_pipeline.simulation.network import City
from st_pipeline.simulation.traffic import Floats, Ints

SERIES = 4096  # slices of restlessness, read by every cell and day from its own place
WET_ODDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Closure:
    """A cell that keeps only part of its capacity from slice `start` to before slice `stop` of one day."""

    cell: int
    day: int
    start: int
    stop: int
    remaining: float


@dataclass(frozen=True, kw_only=True)
class Supply:
    """The part of each capacity that is left, by slice."""

    weather: Floats  # (D,)
    series: Floats  # (SERIES,)
    place: Ints  # (C, D) where in the series a cell begins a day
    closures: Sequence[Closure]

    def __call__(self, index: int) -> Floats:
        """The part left in a slice, (C, D)."""
        left = self.series[(self.place + index) % len(self.series)] * self.weather
        for closure in self.closures:
            if closure.start <= index < closure.stop:
                left[closure.cell, closure.day] *= closure.remaining
        return left


def restless(rng: np.random.Generator) -> Floats:
    """Capacity as it wavers from slice to slice, between 0.8 and 1: queues discharge unevenly and roll in waves."""
    noise = np.convolve(rng.standard_normal(SERIES + 2), [0.3, 0.7, 0.3], mode="valid")
    return np.clip(0.94 + 0.06 * noise, 0.8, 1.0)


def wet_days(days: int, rng: np.random.Generator) -> Floats:
    """Part of the capacity that the weather leaves on each day, (D,)."""
    wet = rng.random(days) < WET_ODDS
    return np.where(wet, rng.uniform(0.88, 0.95, size=days), 1.0)


def incidents(city: City, days: int, *, per_day: float, rng: np.random.Generator) -> list[Closure]:
    """Accidents and breakdowns: a random main cell keeps a random part of its capacity for a random time.

    They begin between 06:00 and 21:00 and last 15 minutes to 3 hours, half of them longer than 40 minutes.
    """
    places = city.cells.filter(city.cells["kind"] == "mainline")["cell"].to_numpy()
    count = int(rng.poisson(per_day * days))
    first_slice = (6 - 2) * 60 // SLICE_MINUTES
    found = []
    for _ in range(count):
        start = first_slice + int(rng.integers(15 * 60 // SLICE_MINUTES))
        minutes = float(np.clip(rng.lognormal(np.log(40), 0.6), 15, 180))
        place, day, remaining = int(rng.choice(places)), int(rng.integers(days)), float(rng.uniform(0.2, 0.65))
        stop = start + round(minutes / SLICE_MINUTES)
        found.append(Closure(cell=place, day=day, start=start, stop=stop, remaining=remaining))
    return found
