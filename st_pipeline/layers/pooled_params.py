"""Linear maps whose parameters a query draws from a pool: one map a node, one a window, or one for each of both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from st_pipeline.layers.pooled_product import pooled_product

Map = Callable[[Tensor], Tensor]


class PooledLinear(nn.Module):
    """y = x W + b with W = sum_d q_d P_d and b = sum_d q_d p_d (AGCRN's node-adaptive parameters, HimNet's pools).

    A query is not normalised. What it is for is its shape: (N, d) one map a node; (B, 1, d) one a window; (B, N, d) one
    for each node of each window, and T steps share it.

    Args:
        inputs: features of x.
        query: d, the entries of the pool.
        bias: whether there is b.
    """

    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, *, query: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(query, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(query, outputs)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier's normal draws, as torch reads its fans off three axes and off two."""
        nn.init.xavier_normal_(self.weight)
        if self.bias is not None:
            nn.init.xavier_normal_(self.bias)

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        """(B, ..., N, inputs) -> (B, ..., N, outputs)."""
        return self.bind(query)(x)

    def bind(self, query: Tensor) -> Map:
        """The maps of a query, for use at many steps; contracted in the order that keeps the fewest numbers.

        A weight for each node or for each window is made once; where each node of each window has its own, none is.
        """
        bias = None if self.bias is None else query @ self.bias  # (..., outputs)
        if query.dim() == 2:
            return _PerNode(self._weights(query), bias)
        if query.shape[1] == 1:
            return _PerWindow(self._weights(query[:, 0]), bias)
        return _PerBoth(self.weight, query, bias)

    def _weights(self, query: Tensor) -> Tensor:
        """(M, d) -> (M, inputs, outputs)."""
        return (query @ self.weight.flatten(1)).unflatten(-1, self.weight.shape[1:])


class _PerNode:
    """x_n W_n + b_n with W (N, inputs, outputs) and b (N, outputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = None if bias is None else bias[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        nodes = x.movedim(-2, 0)  # (N, B, ..., inputs)
        rows = nodes.flatten(1, -2)
        out = rows @ self.weight if self.bias is None else torch.baddbmm(self.bias, rows, self.weight)
        return out.view(*nodes.shape[:-1], -1).movedim(0, -2)


class _PerWindow:
    """x_b W_b + b_b with W (B, inputs, outputs) and b (B, 1, outputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.flatten(1, -2)  # (B, ... * N, inputs)
        out = rows @ self.weight if self.bias is None else torch.baddbmm(self.bias, rows, self.weight)
        return out.view(*x.shape[:-1], -1)


class _PerBoth:
    """sum_d q_bnd (x_bn P_d) + b_bn with the pool P (d, inputs, outputs) and b (B, N, outputs)."""

    def __init__(self, pool: Tensor, query: Tensor, bias: Tensor | None) -> None:
        self.pool = pool
        self.query = query.transpose(0, 1).contiguous()  # (N, B, d): nodes first in memory, as what it meets
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        steps = (1,) * (x.dim() - 3)
        nodes = x.movedim(-2, 0)  # (N, B, ..., inputs)
        query = self.query.unflatten(1, (-1, *steps)).expand(*nodes.shape[:-1], -1)
        out = pooled_product(nodes, query, self.pool).movedim(0, -2)
        return out if self.bias is None else out + self.bias.unflatten(0, (-1, *steps))
