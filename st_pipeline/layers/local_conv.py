"""Graph convolution of a few steps at a time along dense graphs, in which no sensor hears itself (D2STGNN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class OtherHops:
    """P, P^2, ..., P^K without their diagonals: what comes from other nodes, on walks of each length.

    Attributes:
        matrix: P (N, N), or (B, N, N) with one for each window.
        returns: the diagonal of each power, (..., N, 1).
    """

    matrix: Tensor
    returns: tuple[Tensor, ...]

    @classmethod
    def of(cls, matrix: Tensor, order: int) -> Self:
        """The hops of lengths 1 to `order`."""
        returns, power = [matrix.diagonal(dim1=-2, dim2=-1)], matrix
        for length in range(2, order + 1):
            returns.append((power * matrix.mT).sum(-1))  # of power @ matrix
            power = power @ matrix if length < order else power
        return cls(matrix, tuple(back[..., None] for back in returns))

    def __call__(self, x: Tensor) -> list[Tensor]:
        """K tensors (B, N, M) of x (B, N, M)."""
        found, hop = [], x
        for back in self.returns:
            hop = self.matrix @ hop
            found.append(hop - back * x)
        return found


class LocalConv(nn.Module):
    """drop(W [mean of z, sum of z along every hop] + b) with z = ReLU(V [x of k steps]), a vector for each of them.

    All k steps of a node's neighbours reach it at once (D2STGNN, localised convolution).

    Args:
        width: F.
        kernel: k.
        graphs: how many.
        order: hops of each.
    """

    def __init__(self, width: int, *, kernel: int, graphs: int, order: int, dropout: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.steps = nn.Linear(kernel * width, kernel * width, bias=False)
        self.mix = nn.Linear((1 + graphs * order) * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graphs: Sequence[OtherHops]) -> Tensor:
        """(B, N, S, F) -> (B, N, S - k + 1, F)."""
        spans = x.unfold(2, self.kernel, 1).transpose(-1, -2).flatten(-2)  # (B, N, S', k * F)
        together = torch.relu(self.steps(spans)).unflatten(-1, (self.kernel, -1)).sum(-2)  # (B, N, S', F)
        rows = together.flatten(2)
        hops = [hop.view(together.shape) for graph in graphs for hop in graph(rows)]
        out: Tensor = self.dropout(self.mix(torch.cat([together / self.kernel, *hops], dim=-1)))
        return out

    def onward(self, x: Tensor, last: Tensor, graphs: Sequence[OtherHops], *, steps: int) -> Tensor:
        """What the convolution finds next when it goes on reading its own output: (B, N, steps, F).

        Args:
            x: what it has read, (B, N, S, F) with S at least k - 1.
            last: what it has found last, (B, N, F), the first of the steps.
        """
        before, ahead = x[:, :, x.shape[2] - self.kernel + 1 :], last[:, :, None]
        for _ in range(steps - 1):
            read = torch.cat([before, ahead], dim=2)[:, :, -self.kernel :]
            ahead = torch.cat([ahead, self(read, graphs)], dim=2)
        return ahead
