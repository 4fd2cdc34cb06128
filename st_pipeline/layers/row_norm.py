"""Batch normalisation of the features on the last axis, and linear layers with it."""

from __future__ import annotations

from torch import Tensor, nn


class RowNorm(nn.BatchNorm1d):
    """Each feature over all other axes of (..., D), with running statistics for evaluation.

    A single row has no spread: it is normalised with the running statistics in training as well, and leaves them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > 1:
            return super().forward(rows).view(x.shape)
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(rows, mean, variance, self.weight, self.bias, eps=self.eps).view(x.shape)


class NormedLinear(nn.Module):
    """ReLU(norm(x W + b))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = RowNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        out: Tensor = self.norm(self.linear(x))
        return out.relu_()


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A `NormedLinear` and a linear layer behind it."""
    return nn.Sequential(NormedLinear(inputs, hidden), nn.Linear(hidden, outputs))
