"""A small network whose model has learned, and everything that its forecasts are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.forecasting.issue import Sources
from st_pipeline.readers.base import SENSOR_SCHEMA
from st_pipeline.types import NodeSet

HOUR = 3600
MODEL = {"seasonal": ["1d", "7d"], "scaling": {"per": "sensor"}}


@dataclass(frozen=True)
class Town:
    """Three periods of a network, and the parts of a model after the first two."""

    learner: Any
    tensors: Mapping[str, SeriesTensor]
    nodes: Mapping[str, NodeSet]
    parts: Mapping[str, Mapping[str, Any]]
    sensors: pl.DataFrame

    @property
    def keys(self) -> list[str]:
        return list(self.tensors)

    def sources(self, key: str, *, untrained: tuple[str, ...] = (), **changes: Any) -> Sources:
        """What the forecasts of a period are made of; `untrained` are periods that the model has not learned."""
        stream = self.learner.stream
        index = self.keys.index(key)
        known = self.keys[:index]
        parts = {
            part: {one: found for one, found in by_period.items() if one in known and one not in untrained}
            for part, by_period in self.parts.items()
        }
        plain = {
            "config": stream,
            "model": self.learner.model,
            "period": stream.calendar.find(key),
            "tensors": {one: self.tensors[one] for one in self.keys[: index + 1]},
            "sensors": self.sensors,
            "before": self.nodes[known[-1]] if known else None,
            "parts": parts,
        }
        return Sources(**{**plain, **changes})


def table(names: str, **columns: Mapping[str, Any]) -> pl.DataFrame:
    """A sensor table of letters on a line, with further facts by name."""
    rows = [
        {"sensor_id": name, "x": 100.0 * place, "y": 0.0, **{key: facts.get(name) for key, facts in columns.items()}}
        for place, name in enumerate(names)
    ]
    return pl.DataFrame(rows, schema=SENSOR_SCHEMA)


@pytest.fixture(scope="session")
def sensor_table() -> Callable[..., pl.DataFrame]:
    """`sensor_table("abc", installed={"a": date(2024, 1, 1)})`."""
    return table


@pytest.fixture(scope="session")
def town(make_learner: Any, make_history: Any, compute: Any) -> Town:
    """Sensors b and e leave, f, g and h come, b returns; z is installed and never heard."""
    stream = {"graph": {"recipe": "gaussian", "threshold": 0.1}}
    learner = make_learner("prompt_tuning", stream=stream, **MODEL)
    history = make_history(learner.stream)
    first, second, _ = history.values()
    one = learner.learn(first, None, compute=compute)
    two = learner.learn(second, one, compute=compute, earlier=first)
    after = dict(zip(history, (one, two), strict=False))
    parts = {part: {key: {learner.seed: found[part]} for key, found in after.items()} for part in learner.model.parts}
    tensors = {key: data.tensor for key, data in history.items()}
    nodes = {key: data.nodes for key, data in history.items()}
    return Town(learner, tensors, nodes, parts, table("abcdefghz", installed={"z": date(2024, 2, 1)}))


@pytest.fixture(scope="session")
def changed() -> Callable[..., SeriesTensor]:
    """`changed(tensor, "a", steps, value)`: readings of a sensor in some steps; missing ones without a value."""

    def make(tensor: SeriesTensor, name: str, steps: slice, value: float | None = None) -> SeriesTensor:
        values, flags = tensor.values.copy(), tensor.flags.copy()
        row = tensor.sensor_ids.index(name)
        values[steps, row] = 0.0 if value is None else value
        flags[steps, row] = MISSING if value is None else OBSERVED
        return replace(tensor, values=np.asarray(values), flags=np.asarray(flags))

    return make
