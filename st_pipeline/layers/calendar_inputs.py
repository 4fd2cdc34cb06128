"""The calendar as numbers beside the readings, for models that were published with it as input channels."""

from __future__ import annotations

import torch
from torch import Tensor

from st_pipeline.types import SeriesShape, Window

DAYS_PER_WEEK = 7


def calendar_fractions(window: Window, shape: SeriesShape) -> Tensor:
    """(B, T + H, 2): how much of the day has passed at each step, and how many of the week's days, both in [0, 1)."""
    parts = [window.time_of_day / shape.steps_per_day, window.day_of_week / DAYS_PER_WEEK]
    return torch.stack(parts, dim=-1).to(window.values.dtype)


def with_calendar(window: Window, shape: SeriesShape, *, week: bool) -> Tensor:
    """(B, T, N, C + 1) or (B, T, N, C + 2): the readings, the time of day and, if asked for, the day of the week.

    Nodes come first in memory, as windows are cut.
    """
    nodes = window.values.movedim(-2, 0)  # (N, B, T, C)
    when = calendar_fractions(window, shape)[:, : nodes.shape[2], : 2 if week else 1]
    return torch.cat([nodes, when.expand(len(nodes), -1, -1, -1)], dim=-1).movedim(0, -2)
