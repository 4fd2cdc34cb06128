"""The spatial layer of EAC's paper."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.types import Graph


class SymmetricConv(nn.Module):
    """A_hat x W + b with A_hat = D^-1/2 A D^-1/2 (EAC, Appendix D).

    As in the formula, a node's own features enter only where the adjacency has a diagonal.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(..., N, inputs) -> (..., N, outputs); the narrower side is what travels over the edges."""
        linear = self.linear
        if linear.out_features < linear.in_features:
            mixed = nn.functional.linear(x.movedim(-2, 0), linear.weight).movedim(0, -2)
            return graph.propagate(mixed, normalise="symmetric") + linear.bias
        gathered: Tensor = linear(graph.propagate(x, normalise="symmetric").movedim(-2, 0))
        return gathered.movedim(0, -2)
