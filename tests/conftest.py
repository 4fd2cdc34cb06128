"""Shared by all tests: one thread for torch, and makers of small graphs, windows and streams."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig
    from st_pipeline.training.learner import PeriodData
    from st_pipeline.types import Graph, SeriesShape, Window

settings.register_profile("plain", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plain")

HOUR = 3600
SENSORS = (("a", "b", "c", "d", "e"), ("a", "c", "d", "e", "f", "g"), ("a", "c", "d", "f", "g", "h", "b"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests run beside each other; torch is left alone where nobody imported it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def random_graph() -> Callable[..., Graph]:
    """`random_graph(nodes, seed=0, share=0.4)`: weights in (0, 1), directed, without self loops."""
    from st_pipeline.types import Graph

    def make(nodes: int, *, seed: int = 0, share: float = 0.4) -> Graph:
        random = np.random.default_rng(seed)
        row, column = np.nonzero((random.random((nodes, nodes)) < share) & ~np.eye(nodes, dtype=bool))
        return Graph.from_edges(row, column, random.uniform(0.1, 1, len(row)), num_nodes=nodes)

    return make


@pytest.fixture(scope="session")
def random_window() -> Callable[..., Window]:
    """`random_window(shape, batch=3, seed=0, missing=0.2)`: standard normal values, missing cells filled with 0."""
    import torch

    from st_pipeline.types import Window

    def make(shape: SeriesShape, *, batch: int = 3, seed: int = 0, missing: float = 0.2) -> Window:
        random = torch.Generator().manual_seed(seed)
        size = (batch, shape.window, shape.num_nodes, shape.channels)
        observed = torch.rand(size, generator=random) >= missing
        step = torch.randint(0, 7 * shape.steps_per_day, (batch, 1), generator=random)
        step = step + torch.arange(shape.window + shape.horizon)
        return Window(
            torch.randn(size, generator=random) * observed,
            observed,
            step % shape.steps_per_day,
            step // shape.steps_per_day % 7,
        )

    return make


@pytest.fixture(scope="session")
def make_stream() -> Callable[..., StreamConfig]:
    """`make_stream(models=[...], **changes)`: hourly readings in periods of 21 days, forecast 4 steps from 6."""
    from st_pipeline.config import StreamConfig

    def make(**changes: Any) -> StreamConfig:
        plain = {
            "name": "small",
            "source": {"format": "parquet", "readings": "r.parquet", "sensors": "s.parquet", "columns": {"flow": "q"}},
            "step": "1h",
            "periods": {"every": "21d", "start": "2024-01-01", "end": "2024-03-04"},
            "variables": {"flow": {"minimum": 0}},
            "window": 6,
            "horizon": 4,
        }
        return StreamConfig.model_validate({**plain, **changes})

    return make


@pytest.fixture(scope="session")
def make_history() -> Callable[..., dict[str, PeriodData]]:
    """`make_history(stream, seed=0, missing=0.1)`: three periods in which sensors come, leave and return.

    The target has a daily shape of its own for each sensor; a tenth of the cells is missing.
    """
    from st_pipeline.data.quality import MISSING, OBSERVED
    from st_pipeline.data.tensors import SeriesTensor
    from st_pipeline.training.learner import PeriodData
    from st_pipeline.types import Graph, NodeSet

    def make(stream: StreamConfig, *, seed: int = 0, missing: float = 0.1) -> dict[str, PeriodData]:
        births: dict[str, str] = {}
        history = {}
        for period, ids in zip(stream.calendar.periods(), SENSORS, strict=True):
            random = np.random.default_rng([seed, period.index])
            added = tuple(name for name in ids if name not in births)
            before = SENSORS[period.index - 1] if period.index else ()
            returned = tuple(name for name in ids if name in births and name not in before)
            births |= dict.fromkeys(added, period.key)
            retired = tuple(name for name in before if name not in ids)
            nodes = NodeSet(period.key, ids, added, returned, retired=retired, births=dict(births))
            length = round(period.days * 24)
            hours = np.arange(length)[:, None]
            level = np.array([ord(name) - ord("a") + 1 for name in ids])
            daily = 20 * level * (1.2 + np.sin(2 * np.pi * (hours + level) / 24)) + random.normal(
                0, 2, (length, len(ids))
            )
            channels = len(stream.input_names)
            values = np.stack([np.abs(daily) + channel for channel in range(channels)], axis=-1).astype(np.float32)
            flags = np.where(random.random(values.shape) < missing, MISSING, OBSERVED).astype(np.uint8)
            values[flags == MISSING] = 0
            times = int(period.start.timestamp()) + HOUR * np.arange(length, dtype=np.int64)
            tensor = SeriesTensor(period.key, ids, stream.input_names, stream.timezone, values, flags, times)
            ring = np.arange(len(ids))
            graph = Graph.from_edges(ring, (ring + 1) % len(ids), np.full(len(ids), 0.5), num_nodes=len(ids))
            history[period.key] = PeriodData(period, nodes, tensor, graph)
        return history

    return make
