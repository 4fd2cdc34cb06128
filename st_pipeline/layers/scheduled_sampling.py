"""Scheduled sampling: what a decoder reads in training, the labels at first and its own forecasts in the end."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from st_pipeline.types import Target

Feedback = Callable[[int, Tensor], Tensor]


class ScheduledSampling(nn.Module):
    """A label replaces a forecast with probability k / (k + exp(i / k)), i counting the batches (Bengio et al. 2015).

    One coin a step for the whole batch, drawn from torch's global generator. The count goes on in later periods.

    Args:
        decay: k; the probability is a half after about k log k batches. 0: labels are never read.
    """

    batches: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def reset_parameters(self) -> None:
        """The first batch is next."""
        self.batches.zero_()

    @property
    def active(self) -> bool:
        """Whether anything is ever drawn."""
        return self.decay > 0

    def probability(self) -> float:
        """That of a label in the next batch."""
        if not self.active:
            return 0.0
        return sigmoid(math.log(self.decay) - int(self.batches) / self.decay)

    def feedback(self, target: Target) -> Feedback:
        """What the decoder reads after each step of the next batch, which is counted.

        Returns:
            Function of a step from 0 on and its forecast (B, N): the forecast, or where observed the label.
        """
        labelled = torch.rand(target.values.shape[1], dtype=torch.float64, device="cpu") < self.probability()
        self.batches += 1

        def read(step: int, forecast: Tensor) -> Tensor:
            if not labelled[step]:
                return forecast
            return torch.where(target.observed[:, step], target.values[:, step].detach(), forecast)

        return read


def own_forecast(_: int, forecast: Tensor) -> Tensor:
    """The feedback without labels."""
    return forecast


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    small = math.exp(-abs(x))
    return 1 / (1 + small) if x >= 0 else small / (1 + small)
