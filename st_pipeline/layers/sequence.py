"""Layers along a sequence, (S, L, D) -> (S, L, D) for S sequences of length L, and how to lay them along any axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Axis = Literal["window", "time", "node"]
AXES = {"window": 0, "time": 1, "node": 2}
TOGETHER = 1 << 15  # sequences at a time: grids of CUDA kernels end at 65,535, and nodes times windows soon exceed that


class TimeConv(nn.Module):
    """All features to all features, kernel 3, zero padding 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(S, L, D) -> (S, L, D)."""
        image = x.transpose(1, 2).unsqueeze(2)  # (S, D, 1, L): in two dimensions features may come last in memory
        out = nn.functional.conv2d(image, self.conv.weight.unsqueeze(2), self.conv.bias, padding=(0, 1))
        return out.squeeze(2).transpose(1, 2)


class Recurrence(nn.Module):
    """One layer of LSTM that keeps the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(S, L, D) -> (S, L, D): the state after every element."""
        out: Tensor = self.lstm(x)[0]
        return out


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, without positions: the arithmetic of `nn.MultiheadAttention`.

    Its parameters are its own, so that all are drawn anew as they were at first.

    Args:
        width: D, a multiple of `heads`.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_bias = nn.Parameter(torch.empty(3 * width))
        self.out_weight = nn.Parameter(torch.empty(width, width))
        self.out_bias = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `nn.MultiheadAttention`: Xavier's bound inwards, that of `nn.Linear` outwards, no biases."""
        nn.init.xavier_uniform_(self.in_weight)
        bound = len(self.out_weight) ** -0.5
        nn.init.uniform_(self.out_weight, -bound, bound)
        nn.init.zeros_(self.in_bias)
        nn.init.zeros_(self.out_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(S, L, D) -> (S, L, D)."""
        mixed = nn.functional.linear(x, self.in_weight, self.in_bias)
        query, key, value = mixed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (S, heads, L, D / heads)
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return nn.functional.linear(found.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)


class Along(nn.Module):
    """A layer (S, L, D) -> (S, L, D) along one axis of (B, T, N, D)."""

    def __init__(self, layer: nn.Module, axis: Axis) -> None:
        super().__init__()
        self.layer = layer
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, D) -> (B, T, N, D)."""
        return along(self.layer, x, axis=self.axis)


def along(function: Callable[..., Tensor], *parts: Tensor, axis: Axis) -> Tensor:
    """A function of sequences (S, L, D) along one axis of (B, T, N, D); what the other two count are the sequences.

    The parts may differ in that axis and in D; the result has the first part's. Without a copy on the way in where
    nodes come first in memory, then windows, then steps; along the nodes, where windows come first.
    """
    order = [*(other for other in (2, 0, 1) if other != AXES[axis]), AXES[axis], 3]
    ordered = [part.permute(order) for part in parts]
    pieces = zip(*(part.flatten(0, 1).split(TOGETHER) for part in ordered), strict=True)
    found = [function(*piece) for piece in pieces]
    out = found[0] if len(found) == 1 else torch.cat(found)
    return out.unflatten(0, ordered[0].shape[:2]).permute([order.index(axis) for axis in range(4)])


def sinusoids(length: int, width: int, like: Tensor) -> Tensor:
    """Positions as waves, (length, width): sin and cos of place / 10000^(2 i / width) in turn (Vaswani et al. 2017)."""
    place = torch.arange(length, dtype=like.dtype, device=like.device)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=like.dtype, device=like.device) * (-math.log(10000) / width))
    return torch.stack([torch.sin(place * rates), torch.cos(place * rates)], dim=-1).flatten(1)[:, :width]
