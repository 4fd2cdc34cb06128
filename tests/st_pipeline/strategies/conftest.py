"""Networks that change, and what strategies choose of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Selection


@pytest.fixture(scope="module")
def history(make_stream, make_history) -> list[PeriodData]:
    """Sensors a-e, then acde + fg, then acdfg + h and b again."""
    return list(make_history(make_stream()).values())


@pytest.fixture
def make_second(make_learner, make_arrival, history) -> Callable[..., tuple[Any, Any, Selection]]:
    """`make_second(strategy, periods=None, backbone=...)`: a model, its strategy, and what it trains on in period 2.

    `periods` takes the place of the history, `previous=False` hides the first from the second; the rest are options
    of the strategy.
    """

    def make(
        name: str,
        periods: list[PeriodData] | None = None,
        *,
        backbone: dict[str, Any],
        previous: bool = True,
        **options: Any,
    ) -> tuple[Any, Any, Selection]:
        first, then, _ = periods or history
        learner = make_learner(name, prompt_pool=None, backbone=backbone)
        strategy = strategies.build({"name": name, **options})
        torch.manual_seed(0)
        forecaster = strategy.prepare(learner.build(5), make_arrival(learner, first), first.nodes)
        arrival = make_arrival(learner, then, first if previous else None)
        forecaster = strategy.prepare(forecaster, arrival, then.nodes)
        return forecaster, strategy, strategy.select(arrival, then.nodes)

    return make


@pytest.fixture(scope="session")
def chosen() -> Callable[[Selection, PeriodData], str]:
    """`chosen(selection, data)`: names of the nodes whose targets count."""

    def names(selection: Selection, data: PeriodData) -> str:
        assert selection.nodes is not None
        return "".join(name for name, own in zip(data.nodes.ids, selection.nodes.tolist(), strict=True) if own)

    return names


@pytest.fixture(scope="session")
def silenced() -> Callable[[PeriodData, str], PeriodData]:
    """`silenced(data, names)`: the period without a reading of these sensors."""

    def without(data: PeriodData, names: str) -> PeriodData:
        flags, values = data.tensor.flags.copy(), data.tensor.values.copy()
        rows = [row for row, name in enumerate(data.nodes.ids) if name in names]
        flags[:, rows], values[:, rows] = MISSING, 0
        return replace(data, tensor=replace(data.tensor, values=values, flags=flags))

    return without
