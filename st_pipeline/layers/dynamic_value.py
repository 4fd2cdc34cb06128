"""A projection whose matrix each window mixes for itself out of a few."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MIXER = 64  # hidden width of the network that weighs the bases


class DynamicValue(nn.Module):
    """v = m W with W^h = sum_k w_k^h B_k^h for each head h, w the softmax of a network of the window's mean token.

    Args:
        width: D, a multiple of `heads`.
        bases: matrices to mix; 1 is a projection that is the same for all windows, without a network.
    """

    def __init__(self, width: int, *, heads: int, bases: int) -> None:
        super().__init__()
        self.heads = heads
        self.basis = nn.Parameter(torch.empty(bases, width, width))
        self.mixer = (
            nn.Sequential(nn.Linear(width, MIXER), nn.GELU(), nn.Linear(MIXER, heads * bases)) if bases > 1 else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The mean of the bases varies as the matrix of a linear layer."""
        bound = math.sqrt(len(self.basis) / self.basis.shape[1])
        nn.init.uniform_(self.basis, -bound, bound)

    def forward(self, memory: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        if self.mixer is None:
            return memory @ self.basis[0]
        weights = self.mixer(memory.mean(1)).unflatten(-1, (self.heads, -1)).softmax(-1)  # (B, h, K)
        basis = self.basis.unflatten(-1, (self.heads, -1))  # (K, D, h, D / h)
        return torch.bmm(memory, torch.einsum("bhk,kihj->bihj", weights, basis).flatten(2))
