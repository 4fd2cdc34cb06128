"""Diffusion convolution: polynomials of random walks along the edges and against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from st_pipeline.types import Graph

Map = Callable[[Tensor], Tensor]


class DiffusionConv(nn.Module):
    """x W_0 + sum over the walks P and k = 1..K of T_k(P) x W_Pk + b, P = D_out^-1 A and D_in^-1 A^T (DCRNN).

    T_k are Chebyshev's polynomials, T_k = 2 P T_(k-1) - T_(k-2), as in the published code: powers in another basis.
    Each walk's recursion begins at x; the published code begins the second at the first one's last but one term.

    Args:
        steps: K.
        starts: values at which equal parts of b start; none for no b.
    """

    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, *, steps: int = 2, starts: Sequence[float] = ()) -> None:
        super().__init__()
        self.steps = steps
        self.starts = tuple(starts)
        self.weight = nn.Parameter(torch.empty(2 * steps + 1, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if starts else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier's normal draws for the matrix of all terms."""
        nn.init.xavier_normal_(self.weight.detach().flatten(0, 1))
        if self.bias is not None:
            with torch.no_grad():
                for part, start in zip(self.bias.chunk(len(self.starts)), self.starts, strict=True):
                    part.fill_(start)

    def bind(self, graph: Graph) -> Map:
        """The convolution on one graph."""
        return partial(self, graph=graph)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(..., N, inputs) -> (..., N, outputs), fastest where nodes come first in memory.

        The narrower side travels over the edges: towards fewer outputs the weights come before the walks.
        """
        walks = (graph.propagate, graph.reversed.propagate)
        _, inputs, outputs = self.weight.shape
        if outputs <= inputs:
            out = self._weighted_first(x, walks)
        else:
            further = [term for walk in walks for term in chebyshev_terms(x, walk, self.steps)[1:]]
            stacked = torch.cat([term.movedim(-2, 0) for term in (x, *further)], dim=-1)
            out = (stacked @ self.weight.flatten(0, 1)).movedim(0, -2)
        return out if self.bias is None else out + self.bias

    def _weighted_first(self, x: Tensor, walks: Sequence[Map]) -> Tensor:
        nodes = x.movedim(-2, 0)
        rows = nodes.reshape(-1, nodes.shape[-1])
        weighted = torch.bmm(rows.expand(len(self.weight), -1, -1), self.weight)  # (terms, N * ..., outputs)
        own, *terms = weighted.view(len(weighted), *nodes.shape[:-1], -1).movedim(1, -2).unbind(0)
        for place, walk in enumerate(walks):
            own = own + chebyshev_sum(terms[place * self.steps : (place + 1) * self.steps], walk)
        return own


def chebyshev_terms(x: Tensor, move: Map, order: int) -> list[Tensor]:
    """[T_0(P) x, ..., T_order(P) x] with T_k = 2 P T_(k-1) - T_(k-2), where `move` multiplies with P."""
    terms = [x]
    for place in range(order):
        terms.append(2 * move(terms[-1]) - terms[-2] if place else move(x))
    return terms


def chebyshev_sum(terms: Sequence[Tensor], move: Map) -> Tensor:
    """sum over k = 1..K of T_k(P) z_k for K tensors z_k, with K products (Clenshaw's recursion)."""
    later, last = torch.zeros_like(terms[0]), terms[-1]
    for term in reversed(terms[:-1]):
        later, last = last, term + 2 * move(last) - later
    return move(last) - later
