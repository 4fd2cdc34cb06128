"""Gated convolutions along time with several kernels side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.dilated_conv import DilatedConv

KERNELS = (2, 3, 6, 7)  # sums of them and multiples reach the usual periods (MTGNN, section 4.4)
LONGEST = KERNELS[-1]


class GatedInception(nn.Module):
    """tanh(filter(x)) sigmoid(gate(x)), each of them four convolutions with a quarter of the outputs.

    All end at the same step. They are worked out as one convolution, in which the first taps of shorter kernels are 0.

    Args:
        outputs: a multiple of the number of kernels.
        dilation: steps from one tap to the next.
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.dilation = dilation
        self.filters, self.gates = (
            nn.ModuleList(
                DilatedConv(inputs, outputs // len(KERNELS), kernel=kernel, dilation=dilation) for kernel in KERNELS
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, inputs) -> (B, T - 6 dilation, N, outputs)."""
        convolutions = [part.conv for part in (*self.filters, *self.gates)]
        weight = torch.cat(
            [nn.functional.pad(part.weight, (0, 0, LONGEST - part.kernel_size[0], 0)) for part in convolutions]
        )
        bias = torch.cat([part.bias for part in convolutions])
        image = x.contiguous().permute(0, 3, 1, 2)  # (B, C, T, N), channels last in memory
        both = nn.functional.conv2d(image, weight, bias, dilation=(self.dilation, 1)).permute(0, 2, 3, 1)
        signal, gate = both.chunk(2, dim=-1)
        return torch.tanh(signal) * torch.sigmoid(gate)
