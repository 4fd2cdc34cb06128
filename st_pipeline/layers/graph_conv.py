"""The spatial layer of EAC's backbone."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from st_pipeline.types import Graph


class LinearMap(Protocol):
    """A linear map of the D hidden features, e.g. a `HiddenConv`."""

    def before(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (M, D) and bias (M,) of the one linear map that equals this one followed by `weight` (M, D)."""


class GraphConv(nn.Module):
    """A_hat x W_n + b + x W_s: neighbours and the node itself have weights of their own, A_hat is row-normalised.

    (EAC, Appendix D, as its public code has it: D^-1 A without self loops, and no bias on the node's own term.)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.neighbour = nn.Linear(inputs, outputs)
        self.own = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(..., N, inputs) -> (..., N, outputs); the narrower side is what travels over the edges."""
        weight, bias = self.neighbour.weight, self.neighbour.bias
        if self.neighbour.out_features < self.neighbour.in_features:
            gathered = graph.propagate(nn.functional.linear(x, weight)) + bias
        else:
            gathered = nn.functional.linear(graph.propagate(x), weight, bias)
        return gathered + self.own(x)

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Weights (outputs, 2 * inputs) of [A_hat x, x], and the bias."""
        return torch.cat([self.neighbour.weight, self.own.weight], dim=1), self.neighbour.bias

    def after(self, *maps: LinearMap) -> tuple[Tensor, Tensor]:
        """Weights (2 * outputs, inputs) and biases of this layer's two halves behind maps of its input, in order."""
        weight = torch.cat([self.neighbour.weight, self.own.weight])
        bias = nn.functional.pad(self.neighbour.bias, (len(self.neighbour.bias), 0))
        for linear in reversed(maps):
            weight, more = linear.before(weight)
            bias = bias + more
        return weight, bias
