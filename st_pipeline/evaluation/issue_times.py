"""Where the forecasts of the windows of a period's part are issued, and the steps that they are of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from st_pipeline.data.protocols import PartName, PeriodArrays

CHUNK = 512  # windows at a time


def issue_times(arrays: PeriodArrays, part: PartName = "test") -> Iterator[tuple[Tensor, Tensor]]:
    """Last input step (B,) and forecast steps (B, H) of all windows of a part, some windows at a time."""
    starts = arrays.starts(getattr(arrays.cuts, part))
    ahead = torch.arange(1, arrays.horizon + 1)
    for chunk in torch.arange(starts.start, starts.stop).split(CHUNK):
        issued = chunk + arrays.window - 1
        yield issued, issued[:, None] + ahead
