"""What goes wrong between a detector and the archive, with a label for every cell it happens to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from st_pipeline.simulation.detectors import Sample
from st_pipeline.simulation.scenario import Scenario
from st_pipeline.simulation.traffic import Floats, Ints

FAULTS = ("none", "outage", "stuck", "spike", "out_of_range", "duplicate", "late")
NONE, OUTAGE, STUCK, SPIKE, OUT_OF_RANGE, DUPLICATE, LATE = range(len(FAULTS))
CORRECTION_HOURS = 6  # the longest wait for a corrected row
LATE_WINDOW_HOURS = 48  # at the end of a period

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """Cells as first reported, steps by detectors (L, S), and what is wrong with each."""

    fault: NDArray[np.uint8]  # index into FAULTS
    flow: Floats  # veh/h
    speed: Floats  # km/h
    corrected: Bools  # duplicates whose first row is wrong and whose second, later one is right


def inject(
    sample: Sample, *, capacity: Floats, road: NDArray[np.str_], scenario: Scenario, rng: np.random.Generator
) -> Faulty:
    """Damage what was measured in one period; `capacity` (S,) in veh/h and `road` (S,) are those of the detectors.

    A cell has one fault at most. Outages are long gaps, every eighth of a whole road; stuck cells repeat the cell
    before them for hours; spikes are single cells with a possible but wrong value; values out of range are
    negative or far above capacity; duplicates are a copy of the row, or a wrong row and later the right one; late
    rows arrive after the period.
    """
    flow, speed = sample.flow.copy(), sample.speed.copy()
    fault = np.full(flow.shape, NONE, dtype=np.uint8)
    fault[:, [sample.period in detector.silent for detector in sample.detectors]] = OUTAGE
    damage = _Damage(flow=flow, speed=speed, fault=fault, alive=sample.alive, hour=60 // scenario.step_minutes, rng=rng)
    damage.outages(scenario.outage_rate, road)
    damage.stuck(scenario.stuck_rate)
    damage.late(scenario.late_rate)
    damage.spikes(scenario.spike_rate, capacity)
    damage.out_of_range(scenario.out_of_range_rate)
    corrected = damage.duplicates(scenario.duplicate_rate)
    return Faulty(fault=fault, flow=flow, speed=speed, corrected=corrected)


@dataclass
class _Damage:
    """The cells of one period while faults are put in; `hour` is the number of steps in an hour.

    One vehicle in a step is a flow of `hour` veh/h.
    """

    flow: Floats
    speed: Floats
    fault: NDArray[np.uint8]
    alive: Bools
    hour: int
    rng: np.random.Generator

    def outages(self, share: float, road: NDArray[np.str_]) -> None:
        for number, (rows, column) in enumerate(self._stretches(share, shortest=2 / self.hour, longest=48)):
            whole_road = number % 8 == 7
            columns = np.flatnonzero(road == road[column]) if whole_road else np.array([column])
            rows = rows[: round(3 * self.hour)] if whole_road else rows
            self._mark(rows[:, None], columns, OUTAGE)

    def stuck(self, share: float) -> None:
        for rows, column in self._stretches(share, shortest=3, longest=10):
            rows = rows[self._free(rows, column)]
            rows = rows[np.argmax(self.flow[rows, column] > 0) :] if len(rows) else rows
            first, rest = rows[:1], rows[1:]
            self.flow[rest, column], self.speed[rest, column] = self.flow[first, column], self.speed[first, column]
            self._mark(rest, column, STUCK)

    def late(self, share: float) -> None:
        for rows, column in self._stretches(share, shortest=1, longest=6, window=LATE_WINDOW_HOURS):
            self._mark(rows, column, LATE)

    def spikes(self, share: float, capacity: Floats) -> None:
        rows, columns = self._cells(share, every=2)
        limit = capacity[columns]
        empty = self.flow[rows, columns] < limit / 2
        part = np.where(empty, self.rng.uniform(0.85, 1.0, len(rows)), self.rng.uniform(0.0, 0.08, len(rows)))
        fast = self.speed[rows, columns] > 70
        speed = np.where(fast, self.rng.uniform(3, 15, len(rows)), self.rng.uniform(120, 150, len(rows)))
        self.flow[rows, columns] = np.maximum(np.floor(part * limit / self.hour), 1) * self.hour
        self.speed[rows, columns] = np.round(speed, 1)
        self._mark(rows, columns, SPIKE)

    def out_of_range(self, share: float) -> None:
        rows, columns = self._cells(share)
        kind = self.rng.integers(3, size=len(rows))
        negative = -self.rng.integers(1, 200, size=len(rows)) * self.hour
        huge = self.rng.integers(2000, 5000, size=len(rows)) * self.hour
        self.flow[rows, columns] = np.choose(kind, [negative, huge, self.flow[rows, columns]])
        self.speed[rows, columns] = np.where(kind == 2, 255.0, self.speed[rows, columns])
        self._mark(rows, columns, OUT_OF_RANGE)

    def duplicates(self, share: float) -> Bools:
        """Mark duplicates; True where the first row counts only part of the vehicles and a right one follows."""
        rows, columns = self._cells(share)
        counts = self.flow[rows, columns] / self.hour
        in_time = rows < len(self.flow) - (CORRECTION_HOURS + 1) * self.hour
        wrong = (self.rng.random(len(rows)) < 0.5) & (counts >= 5) & in_time
        part = np.floor(counts * self.rng.uniform(0.3, 0.8, len(rows))) * self.hour
        self.flow[rows, columns] = np.where(wrong, part, self.flow[rows, columns])
        corrected = np.zeros(self.flow.shape, dtype=np.bool_)
        corrected[rows, columns] = wrong
        self._mark(rows, columns, DUPLICATE)
        return corrected

    def _free(self, rows: Ints, columns: Ints | int) -> Bools:
        return np.asarray((self.fault[rows, columns] == NONE) & self.alive[rows, columns])

    def _mark(self, rows: Ints, columns: Ints | int, fault: int) -> None:
        self.fault[rows, columns] = np.where(self._free(rows, columns), fault, self.fault[rows, columns])

    def _cells(self, share: float, *, every: int = 1) -> tuple[Ints, Ints]:
        """Distinct free cells, about `share` of all, in rows that are multiples of `every`."""
        steps, sensors = self.flow.shape
        count = max(1, round(share * steps * sensors)) if share else 0
        cells = np.unique(self.rng.integers(steps // every * sensors, size=count))
        rows, columns = cells // sensors * every, cells % sensors
        free = self._free(rows, columns)
        return rows[free], columns[free]

    def _stretches(
        self, share: float, *, shortest: float, longest: float, window: float = np.inf
    ) -> Iterator[tuple[Ints, int]]:
        """Rows and column of stretches of random length in hours, log-uniform, that cover about `share` of the cells.

        With a `window` they lie in that many last hours of the period.
        """
        steps, sensors = self.flow.shape
        mean = (longest - shortest) / np.log(longest / shortest) * self.hour
        first = max(0, steps - round(min(window * self.hour, steps)))
        for _ in range(max(1, round(share * steps * sensors / mean)) if share else 0):
            size = max(2, round(float(np.exp(self.rng.uniform(np.log(shortest), np.log(longest)))) * self.hour))
            begin, column = int(self.rng.integers(first, steps)), int(self.rng.integers(sensors))
            yield np.arange(begin, min(begin + size, steps)), column
