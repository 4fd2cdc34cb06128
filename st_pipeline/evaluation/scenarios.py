"""Faults of a network in service: each changes what is read of a period's test part, never what it is scored on.

A scenario gives new arrays that differ from the old ones in the readings of the test part alone. Draws are made for
every cell, heard or not, so that both protocols meet the same faults from the same generator. Protocol `paper` has no
mask: there a reading that is lost becomes zero, and a zero counts as a reading that was lost already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Generator, Tensor

from st_pipeline.data.protocols import PeriodArrays
from st_pipeline.errors import InputError
from st_pipeline.types import Graph

Scenario = Callable[[PeriodArrays, Graph, Generator], PeriodArrays]
MILE = 1.609344  # kilometres
HOURS_PER_DAY = 24


@dataclass(frozen=True)
class Missing:
    """Cells at random are not heard, each with probability `share`."""

    share: float = 0.2

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        values = _tested(arrays, arrays.values)
        lost = (torch.rand(values.shape, generator=generator) < self.share).to(values.device)
        return _silent(arrays, lost)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on every reading, `decibel` below the power of the sensor's signal about its mean.

    Signal power is the variance of the readings of the test part, per sensor and channel: one that never changes has
    none, and gets no noise.
    """

    decibel: float = 10.0

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        values, heard = _tested(arrays, arrays.values), _tested(arrays, _heard(arrays))
        count = heard.sum(0).clamp(min=1)
        readings = values.double()
        mean = torch.where(heard, readings, 0.0).sum(0) / count
        power = torch.where(heard, (readings - mean).square(), 0.0).sum(0) / count
        deviation = (power / 10 ** (self.decibel / 10)).sqrt().float()
        noise = torch.randn(values.shape, generator=generator).to(values.device) * deviation
        return _reading(arrays, values + torch.where(heard, noise, 0.0), _tested(arrays, arrays.usable))


@dataclass(frozen=True)
class BlockOutage:
    """No sensor is heard for `share` of the test part, `stretches` times at random places that do not overlap."""

    share: float = 0.05
    stretches: int = 3

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        steps = len(arrays.cuts.test)
        length = max(1, round(self.share * steps))
        _require(arrays, self.stretches * length, "block outages")
        between = torch.randint(steps - self.stretches * length + 1, (self.stretches,), generator=generator)
        starts = between.sort().values + length * torch.arange(self.stretches)
        lost = torch.zeros(steps, 1, 1, dtype=torch.bool)
        lost[starts[:, None] + torch.arange(length)] = True
        return _silent(arrays, lost.to(arrays.values.device))


@dataclass(frozen=True)
class DeadCluster:
    """A sensor drawn at random and its nearest neighbours, `share` of all and at least one, are silent throughout.

    Near is a short way along the edges in either direction, an edge being as long as one over its weight. Where the
    graph does not reach enough sensors, others at random join them.
    """

    share: float = 0.2

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        nodes = len(arrays.nodes)
        order = torch.randperm(nodes, generator=generator).numpy()
        away = _away(graph, int(order[0]))
        members = order[np.argsort(away[order], kind="stable")][: _count(self.share, nodes)]
        lost = torch.zeros(1, nodes, 1, dtype=torch.bool)
        lost[:, torch.from_numpy(members)] = True
        return _silent(arrays, lost.to(arrays.values.device))


@dataclass(frozen=True)
class Stuck:
    """`share` of the sensors, at least one, repeat a value whenever they are heard, and are believed.

    It is that of the first step of the test part, or the last one before. A sensor not heard by then is left alone.
    """

    share: float = 0.2

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        first = arrays.cuts.test.start + 1
        heard = _heard(arrays)
        steps = torch.arange(first, device=arrays.values.device)[:, None, None]
        latest = torch.where(heard[:first], steps, -1).amax(0)  # (N, C)
        frozen = arrays.values.gather(0, latest.clamp(min=0)[None])
        repeats = _some(arrays, self.share, generator) & _tested(arrays, heard) & (latest >= 0)
        values = torch.where(repeats, frozen, _tested(arrays, arrays.values))
        return _reading(arrays, values, _tested(arrays, arrays.usable))


@dataclass(frozen=True)
class UnitChange:
    """`share` of the sensors, at least one, report the target `factor` times as high, as miles taken for kilometres."""

    share: float = 0.2
    factor: float = MILE

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        values = _tested(arrays, arrays.values)
        target = torch.arange(values.shape[-1], device=values.device) == 0
        changed = _some(arrays, self.share, generator) & target
        return _reading(arrays, torch.where(changed, self.factor * values, values), _tested(arrays, arrays.usable))


@dataclass(frozen=True)
class ClockShift:
    """From the test part's start on, readings are labelled `hours` late, at least one step; none has the first labels.

    The truth keeps its labels, so that what is read stands against another hour of the calendar.
    """

    hours: float = 1.0

    def __call__(self, arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        late = max(1, round(self.hours * arrays.steps_per_day / HOURS_PER_DAY))
        _require(arrays, late + 1, "readings labelled late")
        values, usable = (_tested(arrays, cells) for cells in (arrays.values, arrays.usable))
        kept = torch.arange(len(values), device=values.device)[:, None, None] >= late
        return _reading(arrays, values.roll(late, dims=0), usable.roll(late, dims=0) & kept)


SCENARIOS: Mapping[str, Scenario] = {
    "missing": Missing(),
    "noise": Noise(),
    "block_outage": BlockOutage(),
    "dead_cluster": DeadCluster(),
    "stuck": Stuck(),
    "unit_change": UnitChange(),
    "clock_shift": ClockShift(),
}


def _tested(arrays: PeriodArrays, cells: Tensor) -> Tensor:
    """The test part of (L, N, C)."""
    return cells[arrays.cuts.test.start : arrays.cuts.test.stop]


def _heard(arrays: PeriodArrays) -> Tensor:
    """(L, N, C): cells that hold a reading, as far as the protocol can tell."""
    return arrays.usable & (arrays.values != 0) if arrays.protocol.missing == "zero" else arrays.usable


def _silent(arrays: PeriodArrays, lost: Tensor) -> PeriodArrays:
    """The arrays without the lost cells of the test part."""
    return _reading(arrays, _tested(arrays, arrays.values), _tested(arrays, arrays.usable) & ~lost)


def _reading(arrays: PeriodArrays, values: Tensor, usable: Tensor) -> PeriodArrays:
    """The arrays with other readings in the test part, its last steps: 0 where not usable, as everywhere."""
    start = arrays.cuts.test.start
    changed = replace(arrays, values=torch.cat([arrays.values[:start], torch.where(usable, values, 0.0)]))
    if arrays.protocol.missing == "zero":
        return changed
    return replace(changed, usable=torch.cat([arrays.usable[:start], usable]))


def _count(share: float, nodes: int) -> int:
    return max(1, round(share * nodes))


def _some(arrays: PeriodArrays, share: float, generator: Generator) -> Tensor:
    """(N, 1): sensors drawn at random."""
    nodes = len(arrays.nodes)
    chosen = torch.zeros(nodes, 1, dtype=torch.bool)
    chosen[torch.randperm(nodes, generator=generator)[: _count(share, nodes)]] = True
    return chosen.to(arrays.values.device)


def _away(graph: Graph, start: int) -> np.ndarray:
    """(N,) the length of the shortest way from a node, infinite where there is none; an edge is 1 / weight long."""
    row, column, weight = (part.cpu().numpy() for part in (graph.row, graph.column, graph.weight))
    joined = weight > 0
    length = 1 / weight[joined].astype(np.float64)
    matrix = coo_array((length, (row[joined], column[joined])), shape=(graph.num_nodes, graph.num_nodes))
    away: np.ndarray = dijkstra(matrix.tocsr(), directed=False, indices=start)
    return away


def _require(arrays: PeriodArrays, least: int, what: str) -> None:
    """Fail if the test part is too short for a scenario.

    Raises:
        InputError: with the numbers.
    """
    found = len(arrays.cuts.test)
    if found < least:
        raise InputError(
            f"period {arrays.period}: its test part has {found} steps, but {what} need {least}; "
            "choose longer periods, another split or a milder scenario"
        )
