"""Some nodes and their neighbours: what the strategies that train on a part of the network train on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from st_pipeline.data.protocols import Part
from st_pipeline.strategies.base import Selection
from st_pipeline.types import Graph


def train_on(chosen: Tensor, graph: Graph, *, hops: int = 2, published: bool = False) -> Selection:
    """Training on the chosen nodes' neighbourhood, with the error of the chosen ones alone; none chosen, no training.

    Args:
        chosen: rows in any order, repeated or not.
        hops: how far the neighbourhood reaches.
        published: as the public code of TrafficStream and EAC does it (continual-methods, section 4): only neighbours
            of a lower index, weights 0 or 1 in both directions, and a chosen node without any edge is dropped.
    """
    nodes = torch.zeros(graph.num_nodes, dtype=torch.bool, device=graph.row.device)
    nodes[chosen.to(nodes.device)] = True
    if published:
        linked = torch.zeros_like(nodes)
        linked[graph.row] = linked[graph.column] = True
        nodes &= linked
    if not nodes.any():
        return Selection(train=False)
    rows = k_hop(graph, nodes.nonzero().flatten(), hops, lower_only=published)
    return Selection(nodes=nodes, rows=rows, graph=_unweighted(graph.subgraph(rows)) if published else None)


def with_targets(rows: Tensor, part: Part) -> Tensor:
    """Those of the rows that have a target to learn from anywhere in the part."""
    return rows[part.windows.target_observed.any(0).to(rows.device)[rows]]


def k_hop(graph: Graph, seeds: Tensor, hops: int, *, lower_only: bool = False) -> Tensor:
    """Rows within `hops` steps of the seeds, whichever way the edges point: (M,) int64, sorted, seeds among them.

    Args:
        lower_only: step to neighbours of a lower index alone. The public code hands each undirected edge over once,
            from its lower end, and so finds {1, 2, 3} within 2 hops of 3 on the path 0-1-2-3-4-5-6.
    """
    low, high = torch.minimum(graph.row, graph.column), torch.maximum(graph.row, graph.column)
    reached = torch.zeros(graph.num_nodes, dtype=torch.bool, device=graph.row.device)
    reached[seeds.to(reached.device)] = True
    for _ in range(hops):
        start = reached.clone()
        reached[low[start[high]]] = True
        if not lower_only:
            reached[high[start[low]]] = True
    return reached.nonzero().flatten()


def _unweighted(graph: Graph) -> Graph:
    """The same edges in both directions, each of weight 1."""
    row, column = torch.cat([graph.row, graph.column]), torch.cat([graph.column, graph.row])
    both = Graph.from_edges(row, column, torch.ones_like(row), num_nodes=graph.num_nodes)
    return replace(both, weight=torch.ones_like(both.weight))
