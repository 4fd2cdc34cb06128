"""Convolutions along time that see only the past and leave steps out between their taps, and stacks of them.

No step is padded: each convolution shortens the window by what it reaches back, and a stack whose `receptive_field`
the window has gives one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


class DilatedConv(nn.Module):
    """out_t = b + sum_k W_k x_(t + k d), every node by itself (van den Oord et al., WaveNet, section 2.1).

    Args:
        kernel: taps.
        dilation: d, steps from one tap to the next.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, (kernel, 1), dilation=(dilation, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, inputs) -> (B, T - (kernel - 1) d, N, outputs)."""
        image = x.permute(0, 3, 1, 2)  # (B, C, T, N): as torch calls it, channels are last in memory
        return cast(Tensor, self.conv(image)).permute(0, 2, 3, 1)


class GatedConv(nn.Module):
    """tanh(filter(x)) sigmoid(gate(x)) of two dilated convolutions, worked out as one (WaveNet, equation 2)."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.both = DilatedConv(inputs, 2 * outputs, kernel=kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, inputs) -> (B, T - (kernel - 1) d, N, outputs)."""
        found, gate = self.both(x).chunk(2, dim=-1)
        return torch.tanh(found) * torch.sigmoid(gate)


def doubling(blocks: int, layers: int) -> list[int]:
    """Dilations 1, 2, 4, ... of the layers of a block, block after block."""
    return [2**layer for _ in range(blocks) for layer in range(layers)]


def receptive_field(kernel: int, dilations: Sequence[int]) -> int:
    """Steps of which one step behind a stack of convolutions is made."""
    return 1 + (kernel - 1) * sum(dilations)


def at_least(values: Tensor, steps: int) -> Tensor:
    """(B, T, N, C) -> (B, max(T, steps), N, C): zeros before a window that is too short."""
    return nn.functional.pad(values, (0, 0, 0, 0, max(0, steps - values.shape[1]), 0))
