"""Forecasts are issued at the last input step of every test window, in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.evaluation.issue_times import CHUNK, issue_times
from st_pipeline.model_config import ScalingConfig


@pytest.mark.parametrize("length", [100, 6 * CHUNK])
def test_windows_are_those_of_the_test_part_and_no_step_is_left_out(make_arrays: Any, length: int) -> None:
    arrays = make_arrays(np.zeros((length, 1)))
    chunks = list(issue_times(arrays))
    issued, future = (torch.cat(part) for part in zip(*chunks, strict=True))
    assert max(len(part) for part, _ in chunks) <= CHUNK
    part = arrays.part("test", arrays.fit_scaler(ScalingConfig()))
    assert torch.equal(issued, part.starts + part.offset + arrays.window - 1)
    assert torch.equal(future, issued[:, None] + 1 + torch.arange(arrays.horizon))
    assert int(future.max()) == length - 1
