"""Graph convolution by repeated steps along one or several graphs, given or learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Move = Callable[[Tensor], Tensor]


class HopConv(nn.Module):
    """W [x, H_1, ..., H_K of every graph] + b with H_k = keep x + (1 - keep) A H_(k-1) and H_0 = x.

    With `keep` 0 the powers of the graphs (Graph WaveNet, section 3.2), otherwise mix-hop propagation (MTGNN, section
    4.3).

    Args:
        graphs: how many.
        order: K.
        keep: share of x in every step.
    """

    def __init__(self, inputs: int, outputs: int, *, graphs: int = 1, order: int = 2, keep: float = 0.0) -> None:
        super().__init__()
        self.order = order
        self.keep = keep
        self.linear = nn.Linear((1 + graphs * order) * inputs, outputs)

    def forward(self, x: Tensor, *moves: Move) -> Tensor:
        """(..., N, inputs) -> (..., N, outputs), nodes first in memory.

        Args:
            moves: A x of each graph, e.g. `graph.propagate`.
        """
        start = x.movedim(-2, 0).contiguous().movedim(0, -2)
        reached = [start]
        for move in moves:
            hop = start
            for _ in range(self.order):
                hop = torch.lerp(move(hop), start, self.keep) if self.keep else move(hop)
                reached.append(hop)
        out: Tensor = self.linear(torch.cat([hop.movedim(-2, 0) for hop in reached], dim=-1))
        return out.movedim(0, -2)
