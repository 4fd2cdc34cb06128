"""The convolution along the hidden axis that EAC's public code calls its temporal layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HiddenConv(nn.Module):
    """One channel, kernel 3, zero padding 1, over the D hidden features of each node: 4 parameters.

    Written as a sum of three shifted copies, which is the same arithmetic as `Conv1d` without its reshaping; in front
    of a linear map it need not be carried out at all (`before`).
    """

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv1d(1, 1, 3, padding=1)
        self.weight = nn.Parameter(conv.weight.detach().clone())  # (1, 1, 3)
        self.bias = nn.Parameter(conv.bias.detach().clone() if conv.bias is not None else torch.zeros(1))

    def reset_parameters(self) -> None:
        conv = nn.Conv1d(1, 1, 3, padding=1)
        with torch.no_grad():
            self.weight.copy_(conv.weight)
            self.bias.copy_(torch.zeros(1) if conv.bias is None else conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        left, middle, right = self.weight.view(3)
        padded = nn.functional.pad(x, (1, 1))
        return left * padded[..., :-2] + middle * x + right * padded[..., 2:] + self.bias

    def before(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (M, D) and bias (M,) of the one linear map that equals this convolution followed by `weight` (M, D).

        The convolution is linear, a band matrix, so the product of the two is taken once instead of for every node.
        """
        left, middle, right = self.weight.view(3)
        padded = nn.functional.pad(weight, (1, 1))
        return left * padded[:, 2:] + middle * weight + right * padded[:, :-2], self.bias * weight.sum(1)
