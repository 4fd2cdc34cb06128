"""Attention across sensors and along steps that knows where and when everything is (GMAN)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from st_pipeline.layers.row_norm import NormedLinear, two_layers
from st_pipeline.layers.sequence import Axis, along
from st_pipeline.layers.transformer import attend


class PlacedAttention(nn.Module):
    """F(attention of Q, K, V) with Q, K, V = ReLU(norm(linear([h ; e]))) and two layers F, along one axis.

    Args:
        width: D of h and of e, a multiple of `heads`.
        axis: along `node` every sensor sees all others of its step, along `time` a step itself and what was before.
    """

    def __init__(self, width: int, *, heads: int, axis: Axis) -> None:
        super().__init__()
        self.heads = heads
        self.axis: Axis = axis
        self.inward = NormedLinear(2 * width, 3 * width)
        self.outward = two_layers(width, width, width)

    def forward(self, both: Tensor) -> Tensor:
        """[h ; e] (B, T, N, 2 D) -> (B, T, N, D)."""
        parts = self.inward(both).chunk(3, dim=-1)
        asked = partial(attend, heads=self.heads, causal=self.axis == "time")
        out: Tensor = self.outward(along(asked, *parts, axis=self.axis))
        return out


class AttentionBlock(nn.Module):
    """h + F(z s + (1 - z) t) with attention s across the sensors, t along the steps, z = sigmoid(W_s s + W_t t + b).

    (GMAN, spatio-temporal attention block with gated fusion.)

    Args:
        width: D, a multiple of `heads`.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.across, self.along = (PlacedAttention(width, heads=heads, axis=axis) for axis in ("node", "time"))
        self.gate_across = nn.Linear(width, width, bias=False)
        self.gate_along = nn.Linear(width, width)
        self.outward = two_layers(width, width, width)

    def forward(self, x: Tensor, where: Tensor) -> Tensor:
        """h and e, both (B, T, N, D) -> (B, T, N, D)."""
        both = torch.cat([x, where], dim=-1)
        across, along_time = self.across(both), self.along(both)
        gate = torch.sigmoid(self.gate_across(across) + self.gate_along(along_time))
        out: Tensor = x + self.outward(torch.lerp(along_time, across, gate))
        return out


class TransformAttention(nn.Module):
    """F(attention) of the steps to come to those of the window, sensor by sensor (GMAN, transform attention).

    Queries and keys are made of the embeddings e of both, values of h, each by ReLU(norm(linear)).
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (NormedLinear(width, width) for _ in range(3))
        self.outward = two_layers(width, width, width)

    def forward(self, x: Tensor, past: Tensor, future: Tensor) -> Tensor:
        """h and e of the window (B, T, N, D), e of the forecast (B, H, N, D) -> (B, H, N, D)."""
        parts = (self.query(future), self.key(past), self.value(x))
        out: Tensor = self.outward(along(partial(attend, heads=self.heads), *parts, axis="time"))
        return out
