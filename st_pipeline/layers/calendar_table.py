"""Learned embeddings of the time of day and of the day of the week."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from st_pipeline.types import SeriesShape, Window

DAYS_PER_WEEK = 7


class CalendarTable(nn.Module):
    """One row for each slot of the day and one for each day of the week, side by side (as in STID).

    Args:
        day_width: columns of a slot's row; 0 leaves the time of day out.
        week_width: columns of a day's row; 0 leaves the day of the week out.
        draw: fills a table of rows at first and at every reset.
    """

    def __init__(
        self,
        shape: SeriesShape,
        day_width: int,
        week_width: int,
        *,
        draw: Callable[[Tensor], object] = nn.init.xavier_uniform_,
    ) -> None:
        super().__init__()
        self.draw = draw
        self.time_of_day = nn.Parameter(torch.empty(shape.steps_per_day, day_width))
        self.day_of_week = nn.Parameter(torch.empty(DAYS_PER_WEEK, week_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for table in (self.time_of_day, self.day_of_week):
            if table.numel():
                self.draw(table)

    @property
    def width(self) -> int:
        return self.time_of_day.shape[1] + self.day_of_week.shape[1]

    def forward(self, window: Window, steps: slice) -> Tensor:
        """(B, steps, day_width + week_width) of these steps, counted over the window and the forecast behind it."""
        return torch.cat(
            [
                nn.functional.embedding(window.time_of_day[:, steps], self.time_of_day),
                nn.functional.embedding(window.day_of_week[:, steps], self.day_of_week),
            ],
            dim=-1,
        )
