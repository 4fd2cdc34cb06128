"""Smoothing of node features over graphs, with signs and gates per node: ReLearner's second module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from st_pipeline.layers.adaptive_graph import UNIT, gather, softmax_graph
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.types import Graph

Kernel = Literal["adaptive", "adjacency", "reversed"]
START = 0.5  # middle of the uniform draws of both gates, which reach from 0 to 1


class ResidualSmoothing(nn.Module):
    """K^L x along the node axis, K = (m I + sum_k alpha_k A_k) beta, with m graphs A_k of rows of sum 1.

    The first-order form of the smoother of a Gaussian Markov random field, (I - alpha S)^-1 = I + alpha S + ..., with
    a share of its own for every node (Jia and Benson, KDD 2020; BiST, PVLDB 2025). alpha = tanh(a) is signed, so that
    neighbours may draw together or apart; beta = sigmoid(b) is a gate. a and b start uniform in [0, 1].

    `adaptive` is softmax over the columns of relu(E E^T) without the diagonal, so its scores are symmetric;
    `adjacency` and `reversed` are the given graph and its transpose. K is never made: work and memory are those of the
    products, and every parameter is a row of a sensor.

    Args:
        num_nodes: rows at first.
        layers: L.
        kernels: the graphs.
        rank: columns of E.
        gate_by: whether alpha and beta of an entry are those of the node that is gathered from (its column, as in
            BiST's public code) or of the one that gathers, K = beta (m I + sum_k alpha_k A_k).
    """

    def __init__(
        self,
        num_nodes: int,
        *,
        layers: int = 2,
        kernels: Sequence[Kernel] = ("adaptive",),
        rank: int = 10,
        gate_by: Literal["source", "target"] = "source",
    ) -> None:
        super().__init__()
        self.layers = layers
        self.kernels = tuple(kernels)
        self.gate_by = gate_by
        self.alpha = NodeTable(num_nodes, len(self.kernels), bound=START)
        self.beta = NodeTable(num_nodes, 1, bound=START)
        self.nodes = NodeTable(num_nodes, rank, bound=UNIT) if "adaptive" in self.kernels else None

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(..., N, F) -> (..., N, F)."""
        alpha, beta = _gates(self.alpha(), self.beta())
        graphs = [self._gather(kernel, graph) for kernel in self.kernels]
        layer = _by_source if self.gate_by == "source" else _by_target
        for _ in range(self.layers):
            x = layer(x, alpha, beta, graphs)
        return x

    def gates(self) -> tuple[dict[str, Tensor], Tensor]:
        """alpha (N,) by kernel, and beta (N,), of all nodes."""
        alpha, beta = _gates(self.alpha.table().detach(), self.beta.table().detach())
        return dict(zip(self.kernels, alpha.unbind(1), strict=True)), beta[:, 0]

    def _gather(self, kernel: Kernel, graph: Graph) -> Callable[[Tensor], Tensor]:
        """A_k as a function of (..., N, F)."""
        if kernel == "adaptive":
            assert self.nodes is not None
            return partial(gather, softmax_graph(self.nodes(), loops=False))
        return graph.propagate if kernel == "adjacency" else graph.reversed.propagate


def _gates(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    return torch.tanh(alpha + START), torch.sigmoid(beta + START)


def _by_source(x: Tensor, alpha: Tensor, beta: Tensor, graphs: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """One K x; alpha (N, m), beta (N, 1)."""
    gated = beta * x
    out = len(graphs) * gated
    for place, propagate in enumerate(graphs):
        out = out + propagate(alpha[:, place : place + 1] * gated)
    return out


def _by_target(x: Tensor, alpha: Tensor, beta: Tensor, graphs: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    out = len(graphs) * x
    for place, propagate in enumerate(graphs):
        out = out + alpha[:, place : place + 1] * propagate(x)
    return beta * out
