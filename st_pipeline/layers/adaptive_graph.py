"""Dense graphs that are learned from what is known of the nodes; a row gathers from its columns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_table import NodeTable

UNIT = 3**0.5  # bound of a uniform distribution of variance 1, that of the normal draws of most publications


class AdaptiveGraph(nn.Module):
    """softmax over the columns of relu(E1 E2^T), with two tables of node embeddings (Graph WaveNet, section 3.2).

    Args:
        num_nodes: rows at first.
        width: columns of each table.
        symmetric: one table, E2 = E1: the scores, not the shares, are symmetric (AGCRN).
        bound: of new rows.
    """

    def __init__(self, num_nodes: int, width: int = 10, *, symmetric: bool = False, bound: float = UNIT) -> None:
        super().__init__()
        self.source = NodeTable(num_nodes, width, bound=bound)
        self.target = None if symmetric else NodeTable(num_nodes, width, bound=bound)

    def forward(self) -> Tensor:
        """(N, N), rows of sum 1."""
        return softmax_graph(self.source(), None if self.target is None else self.target())


class DirectedGraph(nn.Module):
    """A = relu(tanh(a (M1 M2^T - M2 M1^T))) with M_i = tanh(a (E_i W_i + b_i)) (MTGNN, section 4.2).

    Of two nodes at most one gathers from the other. Each row keeps its largest weights. They are ranked before the
    outer tanh, which is 1 for many of them: no noise is needed to decide between equals.

    Args:
        num_nodes: rows at first.
        width: columns of the tables E_i and of M_i.
        neighbours: weights that a row keeps, all where there are fewer nodes.
        saturation: a.
        bound: of new rows.
    """

    def __init__(
        self, num_nodes: int, width: int = 40, *, neighbours: int = 20, saturation: float = 3.0, bound: float = UNIT
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.saturation = saturation
        self.source, self.target = (NodeTable(num_nodes, width, bound=bound) for _ in range(2))
        self.outward, self.inward = (nn.Linear(width, width) for _ in range(2))

    def forward(self) -> Tensor:
        """(N, N), weights in [0, 1) without a diagonal."""
        one = torch.tanh(self.saturation * self.outward(self.source()))
        two = torch.tanh(self.saturation * self.inward(self.target()))
        product = one @ two.t()
        scores = product - product.t()
        kept = largest(scores, self.neighbours)
        return torch.relu(torch.tanh(self.saturation * scores)) * kept


def softmax_graph(source: Tensor, target: Tensor | None = None, *, loops: bool = True) -> Tensor:
    """softmax over the columns of relu(E1 E2^T): (..., N, d) twice -> (..., N, N), rows of sum 1.

    Args:
        source: E1, whose nodes gather.
        target: E2; without it E1, and the scores are symmetric.
        loops: whether a node gathers from itself; if not, the row of a single node is 0.
    """
    target = source if target is None else target
    scores = torch.relu(source @ target.transpose(-1, -2))
    if loops:
        return scores.softmax(-1)
    own = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    lowest = torch.finfo(scores.dtype).min  # finite: a row without any other node has no NaN, in value and gradient
    return scores.masked_fill(own, lowest).softmax(-1).masked_fill(own, 0.0)


def largest(scores: Tensor, count: int) -> Tensor:
    """The `count` largest entries of each row as a mask, all where the row has fewer: (..., N) -> (..., N) bool."""
    places = scores.topk(min(count, scores.shape[-1]), dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, places, True)


def gather(adjacency: Tensor, x: Tensor) -> Tensor:
    """A x along the node axis, (N, N) and (..., N, C) -> (..., N, C): as `Graph.propagate`, for a dense matrix.

    One product, with gradients for both; without a copy where nodes come first in memory.
    """
    nodes = x.movedim(-2, 0)  # (N, ..., C)
    return (adjacency @ nodes.flatten(1)).view(nodes.shape).movedim(0, -2)
