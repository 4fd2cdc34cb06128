"""A state takes in what was found for it, as far as a gate lets it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """norm(z + drop(g * f)) with f = GELU(W_f [z ; o]) and g = sigmoid(W_g [z ; o])."""

    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.fuse, self.gate = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, found: Tensor) -> Tensor:
        """(..., D) and (..., D) -> (..., D)."""
        both = torch.cat([state, found], dim=-1)
        taken = torch.sigmoid(self.gate(both)) * nn.functional.gelu(self.fuse(both))
        out: Tensor = self.norm(state + self.dropout(taken))
        return out
