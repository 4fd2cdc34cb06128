"""Where the forecasts of a period's test windows are issued, and the steps that they are of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from st_pipeline.data.protocols import PeriodArrays

CHUNK = 512  # windows at a time


def issue_times(arrays: PeriodArrays) -> Iterator[tuple[Tensor, Tensor]]:
    """Last input step (B,) and forecast steps (B, H) of all test windows, some windows at a time."""
    starts = arrays.starts(arrays.cuts.test)
    ahead = torch.arange(1, arrays.horizon + 1)
    for chunk in torch.arange(starts.start, starts.stop).split(CHUNK):
        issued = chunk + arrays.window - 1
        yield issued, issued[:, None] + ahead
