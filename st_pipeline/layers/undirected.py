"""Graphs without directions, for layers whose theory needs a symmetric matrix."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from st_pipeline.types import Graph

_KEPT: WeakKeyDictionary[Graph, Graph] = WeakKeyDictionary()


def undirected(graph: Graph) -> Graph:
    """The graph of (A + A^T) / 2; made once for a graph, and kept as long as that is.

    A sensor that others gather from has a degree here even if it gathers from nobody, so that D^-1/2 A D^-1/2 stays
    within a spectrum of -1 to 1.
    """
    if graph not in _KEPT:
        row, column = torch.cat([graph.row, graph.column]), torch.cat([graph.column, graph.row])
        weight = torch.cat([graph.weight, graph.weight]) / 2
        _KEPT[graph] = Graph.from_edges(row, column, weight, num_nodes=graph.num_nodes)
    return _KEPT[graph]
