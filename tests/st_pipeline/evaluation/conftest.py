"""Tidy rows of made-up errors, and one period of readings that a test shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import SOUND, PeriodArrays
from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.rows import SCHEMA
from st_pipeline.training.checkpoint import BySeed
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.types import NodeSet

MONDAY = 1_704_067_200  # 2024-01-01, UTC


@pytest.fixture(scope="session")
def tidy() -> Callable[..., pl.DataFrame]:
    """`tidy(model, {(trained_through, period): error})`: rows of one metric at one horizon."""

    def make(
        model: str,
        errors: Mapping[tuple[str, str], float | None],
        *,
        metric: str = "mae",
        horizon: str = "published_average",
        cohort: str = "all",
        protocol: str = "sound",
    ) -> pl.DataFrame:
        names = {"stream": "small", "model": model, "protocol": protocol, "seed": 1}
        what = {"cohort": cohort, "metric": metric, "horizon": horizon}
        rows = [
            {**names, "trained_through": through, "period": period, **what, "value": value}
            for (through, period), value in errors.items()
        ]
        return pl.DataFrame(rows, schema=SCHEMA)

    return make


@pytest.fixture(scope="session")
def make_arrays(make_stream: Callable[..., StreamConfig]) -> Callable[..., PeriodArrays]:
    """`make_arrays(values, observed=None, **stream)`: a period that begins on a Monday, values (L, N)."""

    def make(values: np.ndarray, observed: np.ndarray | None = None, **changes: Any) -> PeriodArrays:
        stream = make_stream(**changes)
        seen = np.ones(values.shape, bool) if observed is None else observed
        flags = np.where(seen, OBSERVED, MISSING).astype(np.uint8)[..., None]
        ids = tuple(f"s{row}" for row in range(values.shape[1]))
        times = MONDAY + round(stream.step.total_seconds()) * np.arange(len(values), dtype=np.int64)
        landed = np.where(seen, values, 0).astype(np.float32)[..., None]
        tensor = SeriesTensor("2024-01-01", ids, ("flow",), "UTC", landed, flags, times)
        return PeriodArrays.of(tensor, NodeSet.of(ids), stream, protocol=SOUND)

    return make


@pytest.fixture(scope="module")
def history(learner: Learner, make_history: Callable[..., dict[str, PeriodData]]) -> dict[str, PeriodData]:
    """Periods of the stream of the test file's `learner`."""
    return make_history(learner.stream)


@pytest.fixture(scope="module")
def parts(learner: Learner, history: dict[str, PeriodData], compute: Compute) -> dict[str, BySeed]:
    """That model after the first period."""
    learned = learner.learn(next(iter(history.values())), None, compute=compute)
    return {part: {learner.seed: checkpoint} for part, checkpoint in learned.items()}
