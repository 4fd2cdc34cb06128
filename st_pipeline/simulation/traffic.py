"""The cell transmission model: vehicles as a fluid that moves from cell to cell.

Roads are cut into cells. In one time step a cell can send at most what is in it at free-flow speed, and at most its
capacity; it can receive at most its capacity, and at most what its empty room lets in at the speed of the backward
wave. What crosses a boundary is the smaller of what can be sent and what can be received, so queues grow upstream
by themselves. This is the triangular fundamental diagram of Newell (1993) solved by the scheme of Daganzo, C.F.
(1994) "The cell transmission model", Transportation Research B 28(4), 269-287; merges and diverges follow Daganzo
(1995) "The cell transmission model, part II: network traffic", Transportation Research B 29(2), 79-93.

Shape letters: C cells, D independent days, K slices of time, W watched cells, O origins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _no_rows(width: int) -> Ints:
    return np.empty((0, width), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Roads:
    """Cells and how they join. Every cell has at most one boundary upstream and at most one downstream.

    `links` are rows (from, to); `merges` rows (main, side, into) where `priority` is the main road's part of a
    contested entry; `diverges` rows (from, main, side) where `share` of the vehicles take the side. A cell whose
    jam density is infinite always has room: an origin holds the vehicles that wait to enter, a destination (a cell
    that sends nowhere) counts those that have left.
    """

    length: Floats  # (C,) m
    free_speed: Floats  # (C,) m/s
    capacity: Floats  # (C,) veh/s
    jam: Floats  # (C,) veh/m
    links: Ints = field(default_factory=lambda: _no_rows(2))  # (., 2)
    merges: Ints = field(default_factory=lambda: _no_rows(3))  # (., 3)
    priority: Floats = field(default_factory=lambda: np.empty(0))
    diverges: Ints = field(default_factory=lambda: _no_rows(3))  # (., 3)
    share: Floats = field(default_factory=lambda: np.empty(0))

    @cached_property
    def wave_speed(self) -> Floats:
        """Speed of the backward wave, (C,) m/s: the falling side of the triangle."""
        return self.capacity / (self.jam - self.capacity / self.free_speed)

    def factors(self, step: float) -> tuple[Floats, Floats, Floats]:
        """Of each cell, (C, 1): the part that can leave in a step, the part of the room that can fill, the room."""
        waves = np.where(np.isfinite(self.jam), self.wave_speed * step / self.length, 1.0)
        return (self.free_speed * step / self.length)[:, None], waves[:, None], (self.jam * self.length)[:, None]

    def longest_step(self) -> float:
        """The longest time step in seconds in which nothing crosses more than one cell (Courant-Friedrichs-Lewy)."""
        return float(np.min(self.length / np.maximum(self.free_speed, self.wave_speed)))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What happened at the watched cells, and how many vehicles every cell holds at the end."""

    flow: Floats  # (K, W, D) vehicles that left the cell during the slice
    held: Floats  # (K, W, D) vehicles in the cell, mean over the slice
    final: Floats  # (C, D)


def exchange(roads: Roads, vehicles: Floats, *, limit: Floats, step: float) -> tuple[Floats, Floats]:
    """Vehicles that enter and that leave every cell in one step, each (C, D).

    `vehicles` (C, D) are those in the cells; `limit` (C, D) is the capacity in vehicles per step.
    """
    pace, back, room = roads.factors(step)
    sending = np.minimum(vehicles * pace, limit)
    receiving = np.minimum((room - vehicles) * back, limit)
    entering, leaving = np.zeros_like(vehicles), np.zeros_like(vehicles)

    source, target = roads.links.T
    entering[target] = leaving[source] = np.minimum(sending[source], receiving[target])

    main, side, into = roads.merges.T
    ahead, beside, space = sending[main], sending[side], receiving[into]
    first = space * roads.priority[:, None]
    leaving[main] = from_main = np.minimum(ahead, np.maximum(space - beside, first))
    leaving[side] = from_side = np.minimum(beside, np.maximum(space - ahead, space - first))
    entering[into] = from_main + from_side

    fork, straight, turn = roads.diverges.T
    share = roads.share[:, None]
    passing = np.minimum(sending[fork], np.minimum(receiving[straight] / (1 - share), receiving[turn] / share))
    leaving[fork] = passing
    entering[turn] = turning = passing * share
    entering[straight] = passing - turning
    return entering, leaving


def run(
    roads: Roads,
    *,
    arrivals: Floats,
    origins: Ints,
    watch: Ints,
    slice_steps: int,
    step: float,
    capacity_left: Callable[[int], Floats] | None = None,
) -> Record:
    """Simulate D days side by side, starting with empty roads.

    `arrivals` (K, O, D) are the vehicles that reach each origin in every slice of `slice_steps` steps of `step`
    seconds; `capacity_left` gives the part of every capacity, (C, D), that is left in a slice.

    Raises:
        ValueError: the step is so long that vehicles or waves would cross more than one cell.
    """
    if step > roads.longest_step() * (1 + 1e-9):
        raise ValueError(f"a step of {step} s crosses more than a cell; expected at most {roads.longest_step():.1f} s")
    slices, _, days = arrivals.shape
    vehicles = np.zeros((len(roads.length), days))
    full = np.repeat(roads.capacity[:, None] * step, days, axis=1)
    flow, held = np.zeros((2, slices, len(watch), days))
    for index in range(slices):
        limit = full * capacity_left(index) if capacity_left else full
        arriving = arrivals[index] / slice_steps
        for _ in range(slice_steps):
            vehicles[origins] += arriving
            entering, leaving = exchange(roads, vehicles, limit=limit, step=step)
            flow[index] += leaving[watch]
            held[index] += vehicles[watch]
            vehicles += entering
            vehicles -= leaving
    return Record(flow=flow, held=held / slice_steps, final=vehicles)
