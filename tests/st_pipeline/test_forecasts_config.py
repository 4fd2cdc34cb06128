"""When forecasts are issued."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from st_pipeline.config import StreamConfig

Make = Callable[..., StreamConfig]


@pytest.mark.parametrize(
    ("step", "section", "steps"),
    [("1h", {}, 1), ("5min", {}, 12), ("45min", {}, 2), ("3h", {}, 1), ("15min", {"every": "30min"}, 2)],
)
def test_every_hour_or_every_step_unless_it_is_said(
    make_stream: Make, step: str, section: dict[str, Any], steps: int
) -> None:
    config = make_stream(step=step, forecasts=section)
    assert config.issue_steps == steps
    assert config.forecasts.issue_every(config.step) == steps * config.step


@pytest.mark.parametrize("every", ["90min", "1min", "22d"])
def test_what_fits_no_grid_is_refused(make_stream: Make, every: str) -> None:
    with pytest.raises(ValueError, match=r"forecasts.every is .*; expected a multiple of the step \(1h\), no longer"):
        make_stream(forecasts={"every": every})


def test_no_trained_part_depends_on_it(make_stream: Make) -> None:
    model = {"name": "one", "backbone": "stgnn", "strategy": "online"}
    plain, other = make_stream(models=[model]), make_stream(models=[model], forecasts={"every": "6h"})
    assert plain.model_section(plain.models[0]) == other.model_section(other.models[0])
    assert other.forecasts.every == timedelta(hours=6)
