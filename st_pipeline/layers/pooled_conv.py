"""Graph convolution on a dense graph with parameters from a pool, and the recurrent unit made of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from st_pipeline.layers.adaptive_graph import gather
from st_pipeline.layers.diffusion_conv import chebyshev_terms
from st_pipeline.layers.graph_gru import GraphGRU
from st_pipeline.layers.pooled_params import PooledLinear

Map = Callable[[Tensor], Tensor]


class PooledConv(nn.Module):
    """[T_0 x, ..., T_(K-1) x] W + b with T_0 = 1, T_1 = A, T_k = 2 A T_(k-1) - T_(k-2), and pooled W and b.

    (AGCRN; HimNet.)

    Args:
        query: width of the queries; None for one W and b, whatever the query.
        order: K, the terms of the convolution.
        bias: whether there is b.
    """

    linear: PooledLinear | nn.Linear

    def __init__(self, inputs: int, outputs: int, *, query: int | None, order: int = 2, bias: bool = False) -> None:
        super().__init__()
        self.order = order
        if query is None:
            self.linear = nn.Linear(order * inputs, outputs, bias=bias)
        else:
            self.linear = PooledLinear(order * inputs, outputs, query=query, bias=bias)

    def bind(self, adjacency: Tensor, query: Tensor) -> Map:
        """The convolution on one graph, A (N, N) or one a window (B, N, N), with the parameters of a query.

        Args:
            query: (N, d), (B, 1, d) or (B, N, d), as in `PooledLinear`.
        """
        move = partial(move_over, adjacency)
        linear = (
            self.linear.bind(query) if isinstance(self.linear, PooledLinear) else partial(_nodes_first, self.linear)
        )
        return lambda x: linear(side_by_side(chebyshev_terms(x, move, self.order - 1)))

    def forward(self, x: Tensor, adjacency: Tensor, query: Tensor) -> Tensor:
        """(B, ..., N, inputs) -> (B, ..., N, outputs)."""
        return self.bind(adjacency, query)(x)


def pooled_gru(inputs: int, hidden: int, *, query: int | None, order: int = 2) -> GraphGRU:
    """The unit of AGCRN and HimNet; its context is a graph and a query."""
    layer = partial(PooledConv, query=query, order=order)
    return GraphGRU(layer(inputs, 3 * hidden, bias=True), layer(hidden, 2 * hidden), layer(hidden, hidden))


def move_over(adjacency: Tensor, x: Tensor) -> Tensor:
    """A x along the node axis: A (N, N) or (B, N, N), x (B, ..., N, C)."""
    if adjacency.dim() == 2:
        return gather(adjacency, x)
    steps = (1,) * (x.dim() - 3)
    return adjacency.unflatten(0, (-1, *steps)) @ x


def side_by_side(terms: list[Tensor]) -> Tensor:
    """Tensors (..., N, C) -> (..., N, sum of C), in the memory order of windows: nodes first."""
    return torch.cat([term.movedim(-2, 0) for term in terms], dim=-1).movedim(0, -2)


def _nodes_first(layer: nn.Linear, x: Tensor) -> Tensor:
    """(..., N, F) -> (..., N, F'), nodes first in memory."""
    out: Tensor = layer(x.movedim(-2, 0))
    return out.movedim(0, -2)
