"""Forecasts of a network piece by piece of its graph, for networks beyond the memory of one device.

A shard is some nodes with all that their forecasts depend on: the nodes within `Forecaster.hops` edges of them. Its
forecasts are those that the whole network would have given, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from st_pipeline.data.protocols import Part
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import Forecaster
from st_pipeline.training.forecasts import map_forecasts
from st_pipeline.training.pieces import Workers
from st_pipeline.types import Graph

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Nodes that are forecast, and those around them.

    Attributes:
        rows: (M,) int, both, in the order of the network.
        own: (M,) bool, which of them are forecast.
    """

    rows: Tensor
    own: Tensor

    @property
    def nodes(self) -> Tensor:
        """Those that are forecast."""
        return self.rows[self.own]

    @classmethod
    def around(cls, nodes: Tensor, graph: Graph, *, hops: int) -> Shard:
        """Nodes (K,) int with all within so many edges of them, whichever way the edges point."""
        wanted = torch.zeros(graph.num_nodes, dtype=torch.bool)
        wanted[nodes] = True
        near = wanted
        for _ in range(hops):
            reached = near.clone()
            reached[graph.column[near[graph.row]]] = True
            reached[graph.row[near[graph.column]]] = True
            near = reached
        rows = near.nonzero()[:, 0]
        return cls(rows, wanted[rows])


def shards_of(graph: Graph, count: int, *, hops: int) -> list[Shard]:
    """The network's nodes in so many shards of nearly equal number, neighbours in one where that can be.

    (Nodes in the order of Cuthill and McKee, ACM 1969, reversed; it keeps the ends of most edges close together.)
    """
    edges = graph.weight.numpy(), (graph.row.numpy(), graph.column.numpy())
    matrix = coo_array(edges, shape=(graph.num_nodes, graph.num_nodes)).tocsr()
    matrix.indptr, matrix.indices = (part.astype(np.int32) for part in (matrix.indptr, matrix.indices))
    order = torch.from_numpy(reverse_cuthill_mckee(matrix + matrix.T, symmetric_mode=True).astype(np.int64))
    return [Shard.around(nodes, graph, hops=hops) for nodes in order.tensor_split(count) if len(nodes)]


def map_shards(
    forecaster: Forecaster,
    part: Part,
    graph: Graph,
    shards: list[Shard],
    each: Callable[[Tensor, Tensor, Tensor], T],
    *,
    device: torch.device,
    workers: Workers,
    most: int | None = None,
) -> Iterator[tuple[Shard, list[T]]]:
    """`each` of forecast, truth and scored cells (B, H, K) of a shard's own nodes, piece by piece of the windows.

    Args:
        part: of the whole network, like the graph on the processor; a shard at a time is copied to the device.
        most: windows that memory allows at a time.
    """
    for shard in shards:
        rows, own = shard.rows.to(device), shard.own.to(device)

        def mine(*cells: Tensor, own: Tensor = own) -> T:
            return each(*(one[..., own] for one in cells))

        near, among = part.of_nodes(shard.rows).to(device), graph.subgraph(shard.rows).to(device)
        with restricted(forecaster, rows):
            yield shard, list(map_forecasts(forecaster, near, among, mine, workers=workers, most=most))
