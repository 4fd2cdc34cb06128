"""Sensors as rows of the network that has arrived."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from st_pipeline.strategies.base import Arrival, Network
from st_pipeline.strategies.parts.node_drift import latest_readings
from st_pipeline.types import NodeSet


def rows_of(nodes: NodeSet, names: Iterable[str]) -> Tensor:
    """Rows of the named sensors: int64, on the CPU."""
    return torch.tensor(nodes.index_of(names), dtype=torch.int64)


def newcomers(nodes: NodeSet) -> Tensor:
    """Rows of the sensors that were added or have returned."""
    return rows_of(nodes, (*nodes.added, *nodes.returned))


def kept(earlier: NodeSet, nodes: NodeSet) -> tuple[Tensor, Tensor]:
    """Rows of the retained sensors that were there in an earlier network as well: there, and here."""
    there = set(earlier.ids)
    names = [name for name in nodes.retained if name in there]
    return rows_of(earlier, names), rows_of(nodes, names)


def measured(network: Network, period: Arrival) -> Tensor:
    """(N,) bool, on the CPU: the sensors with a reading in the days that drift is seen in."""
    return latest_readings(network, steps_per_day=period.steps_per_day)[1].any(0).cpu()


def shuffled(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The rows in a random order."""
    return rows[torch.randperm(len(rows), generator=generator)]
