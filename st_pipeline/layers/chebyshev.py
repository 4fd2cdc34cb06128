"""Graph convolution by Chebyshev polynomials: the spectral layer of EAC's universality table."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from st_pipeline.types import Graph

ORDER = 3  # T_0, T_1, T_2


class ChebConv(nn.Module):
    """sum_k T_k(M) x W_k + b with T_0 = 1, T_1 = M, T_2 = 2 M^2 - 1.

    Args:
        laplacian: M is the scaled Laplacian 2 L / lambda_max - 1 of L = 1 - D^-1/2 A D^-1/2 (EAC, Appendix D). Its
            spectrum ends at 2 at most, and lambda_max = 2 is taken, so that M = -D^-1/2 A D^-1/2 and no eigenvalue
            is computed. False takes M = D^-1 A, to which EAC's public code applies the same recursion.
    """

    def __init__(self, inputs: int, outputs: int, *, laplacian: bool) -> None:
        super().__init__()
        self.laplacian = laplacian
        self.weight = nn.Parameter(torch.empty(ORDER, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both uniform in +- 1 / sqrt(inputs * outputs): Kaiming's bound as torch reads it off three axes."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(..., N, inputs) -> (..., N, outputs), fastest where nodes come first in memory.

        The narrower side travels over the edges: towards fewer outputs the weights come before the polynomials.
        """
        _, inputs, outputs = self.weight.shape
        if outputs < inputs:
            weight = self.weight.movedim(0, 1).flatten(1)  # (inputs, 3 * outputs)
            zero, one, two = (x.movedim(-2, 0) @ weight).movedim(0, -2).chunk(ORDER, dim=-1)
            return zero - two + self._move(one + 2 * self._move(two, graph), graph) + self.bias
        first = self._move(x, graph)
        terms = (x, first, 2 * self._move(first, graph) - x)
        stacked = torch.cat([term.movedim(-2, 0) for term in terms], dim=-1)
        return nn.functional.linear(stacked, self.weight.flatten(0, 1).t(), self.bias).movedim(0, -2)

    def _move(self, x: Tensor, graph: Graph) -> Tensor:
        """M x."""
        return -graph.propagate(x, normalise="symmetric") if self.laplacian else graph.propagate(x)
