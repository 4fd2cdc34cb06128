"""Labels as a representation, for losses that are there in training alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from st_pipeline.layers.flat_steps import flat_width, unflat
from st_pipeline.types import SeriesShape, Target, Window

DAYS_PER_WEEK = 7
EXPANSION = 4  # of the hidden layer


class LabelEncoder(nn.Module):
    """Labels of a node, which of them are observed, and when they begin -> a representation of the label side.

    Linear, GELU, Linear with a hidden layer of 4 F'. Labels that are not observed enter as 0.

    Args:
        deep: axes of the label side without windows and nodes, (F',) or (S', F').
    """

    def __init__(self, shape: SeriesShape, deep: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.deep = deep
        self.inward = nn.Linear(2 * shape.horizon + 2 + DAYS_PER_WEEK, EXPANSION * deep[-1])
        self.outward = nn.Linear(EXPANSION * deep[-1], flat_width(deep))

    def forward(self, target: Target, window: Window) -> Tensor:
        """(B, N, F') or (B, S', N, F')."""
        labels = torch.where(target.observed, target.values.detach(), 0.0).transpose(1, 2)  # (B, H, N) -> (B, N, H)
        seen = target.observed.transpose(1, 2).to(labels.dtype)
        when = self._when(window).to(labels.dtype)[:, None].expand(-1, labels.shape[1], -1)
        hidden = nn.functional.gelu(self.inward(torch.cat([labels, seen, when], dim=-1)))
        return unflat(self.outward(hidden), self.deep)

    def _when(self, window: Window) -> Tensor:
        """(B, 9): time of day on a circle, day of the week as one of seven, of the first label."""
        first = self.shape.window
        angle = 2 * math.pi * window.time_of_day[:, first] / self.shape.steps_per_day
        day = nn.functional.one_hot(window.day_of_week[:, first], DAYS_PER_WEEK)
        return torch.cat([angle.cos()[:, None], angle.sin()[:, None], day], dim=1)
