"""How large a forecast's error usually is: by the size of the forecast, the sensor and the time of the week."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BINS = 168  # of the week, at most: its hours
LEVEL_BINS = 16  # of the size of a forecast
CAP = 8.0  # an error counts as at most so many times the scale
FLOOR = 1e-3  # of the mean error, below which no scale goes


@dataclass
class Factor:
    """Running means of a ratio, one a cell of a table (rows, columns); they begin at 1 with the weight of a guess.

    A weight of 1 is one visit of a cell: one hour of the day or the week gone by, one day for a whole sensor.
    """

    mean: Floats
    count: Floats
    memory: float  # visits after which the past is forgotten

    @classmethod
    def of(cls, rows: int, columns: int, *, guess: float, memory: float) -> Factor:
        return cls(np.ones((rows, columns)), np.full((rows, columns), guess), memory)

    def update(self, cells: Ints, ratio: Floats, weight: float) -> None:
        """Add ratios (M,) of the flat cells (M,), each with this weight."""
        size, shape = self.mean.size, self.mean.shape
        new = weight * np.bincount(cells, minlength=size).reshape(shape)
        total = self.mean * self.count + weight * np.bincount(cells, weights=ratio, minlength=size).reshape(shape)
        self.mean = total / (self.count + new)
        self.count = np.minimum(self.count + new, self.memory)

    def of_rows(self, rows: Ints, guess: float) -> Factor:
        """The rows in this order; those of -1 begin anew."""
        fresh = Factor.of(1, self.mean.shape[1], guess=guess, memory=self.memory)
        mean, count = (np.concatenate(pair)[rows] for pair in ((self.mean, fresh.mean), (self.count, fresh.count)))
        return Factor(mean, count, self.memory)


class LocalScale:
    """Expected absolute error: a mean, times factors from the coarse to the fine, each relative to those before.

    Pooled over sensors: size of the forecast, hour of the day. Of each sensor: itself, hour of the day, hour of the
    week. A factor without data is 1, so that a cell with little of its own is as the coarser ones say, and a sensor
    without any is as the pooled ones say.
    """

    GUESS = (0.2, 0.5, 0.5, 2.0, 3.0)  # visits that the guess of 1 weighs, factor by factor
    MEMORY = (28.0, 28.0, 28.0, 28.0, 8.0)

    def __init__(self, sensors: int, *, horizon: int, slots_per_week: int, edges: Floats, mean: float) -> None:
        self.horizon, self.slots = horizon, slots_per_week
        self.edges, self.mean = edges, mean
        self.bins = min(BINS, slots_per_week)
        self.hours = max(1, self.bins // 7)
        shapes = ((1, len(edges) + 1), (1, self.hours), (sensors, 1), (sensors, self.hours), (sensors, self.bins))
        self.waiting: list[tuple[Floats, Ints, Floats, Bools]] = []
        self.factors = [
            Factor.of(*shape, guess=guess, memory=memory)
            for shape, guess, memory in zip(shapes, self.GUESS, self.MEMORY, strict=True)
        ]

    @classmethod
    def fit(cls, point: Floats, slot: Ints, size: Floats, seen: Bools, *, slots_per_week: int) -> LocalScale:
        """From forecasts (S, H, N), slots of the week (S, H) and absolute errors where they are seen (S, H, N)."""
        sensors = point.shape[-1]
        edges, mean = np.empty(0), np.nan
        if seen.any():
            edges = np.unique(np.quantile(point[seen], np.arange(1, LEVEL_BINS) / LEVEL_BINS))
            mean = float(size[seen].mean())
        empty = partial(cls, sensors, horizon=point.shape[1], slots_per_week=slots_per_week, edges=edges, mean=mean)
        scale = empty()
        if seen.any():
            scale._update(point, slot, size, seen)
            limit = CAP * scale.of(point, slot)
            scale = empty()
            scale._update(point, slot, np.minimum(size, limit), seen)
        return scale

    def of(self, point: Floats, slot: Ints) -> Floats:
        """Scale (..., H, N) of forecasts of this size (..., H, N) for slots of the week (..., H); NaN if unknown."""
        product = np.full(point.shape, self.mean or 1.0)
        for factor, cells in self._cells(point, slot):
            product *= factor.mean.reshape(-1)[cells]
        return np.maximum(product, FLOOR * (self.mean or 1.0))

    def learn(self, point: Floats, slot: Ints, size: Floats, seen: Bools) -> None:
        """Move towards the absolute errors (D, N) of the cells that are seen, of steps in these slots (D,).

        They count from `move_on` to other slots: forecasts of one step have like errors, and none may be judged by a
        scale that has seen the error of another.
        """
        if np.isnan(self.mean):
            self.mean = float(size[seen].mean())
        self.waiting.append((point, slot, size, seen))

    def move_on(self, slot: Ints) -> None:
        """Take in what was learned, unless it is of these very slots (D,)."""
        full = len(self.waiting) >= self.horizon  # no step is forecast more often
        if full or (self.waiting and not np.array_equal(np.unique(slot), np.unique(self.waiting[-1][1]))):
            self._take_in()

    def _take_in(self) -> None:
        point, slot, size, seen = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        self._update(point, slot, np.minimum(size, CAP * self.of(point, slot)), seen)
        self.waiting = []

    def for_sensors(self, rows: Ints) -> LocalScale:
        """The same for other sensors (M,), by their row here; -1 is a new one."""
        other = LocalScale(len(rows), horizon=self.horizon, slots_per_week=self.slots, edges=self.edges, mean=self.mean)
        of_sensors = [
            factor.of_rows(rows, guess) for factor, guess in zip(self.factors[2:], self.GUESS[2:], strict=True)
        ]
        other.factors = [*self.factors[:2], *of_sensors]
        return other

    def _update(self, point: Floats, slot: Ints, size: Floats, seen: Bools) -> None:
        per_day = 7 / (self.horizon * self.slots)  # a sensor is seen in every slot, at each horizon
        sensors = max(1, int(seen.any(axis=tuple(range(seen.ndim - 1))).sum()))
        columns = (len(self.edges) + 1, self.hours, 1, self.hours, self.hours)
        ratio = size[seen] / (self.mean or 1.0)
        for place, (factor, cells) in enumerate(self._cells(point, slot)):
            weight = per_day * columns[place] / (sensors if place < 2 else 1)
            chosen = np.broadcast_to(cells, seen.shape)[seen]
            factor.update(chosen, ratio, weight)
            ratio = ratio / np.maximum(factor.mean.reshape(-1)[chosen], FLOOR)

    def _cells(self, point: Floats, slot: Ints) -> Iterator[tuple[Factor, Ints]]:
        """Every factor with the flat cells that these forecasts belong to, to broadcast over (..., H, N)."""
        place = (slot % self.slots * self.bins // self.slots)[..., None]
        hour = place % self.hours
        row = np.arange(point.shape[-1])
        level = np.searchsorted(self.edges, point)
        cells = (level, hour, row, row * self.hours + hour, row * self.bins + place)
        return zip(self.factors, cells, strict=True)
