"""What several backbones promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from st_pipeline.models.base import Forecaster
from st_pipeline.types import SeriesShape


@pytest.fixture
def assert_alone(random_window, random_graph) -> Callable[[Forecaster, SeriesShape], None]:
    """`assert_alone(model, shape)`: the forecast of a sensor changes with its own readings, and with nothing else."""

    def check(model: Forecaster, shape: SeriesShape) -> None:
        window, nodes = random_window(shape), shape.num_nodes
        values = window.values.clone()
        values[:, :, 1] += 1
        before = model(window, random_graph(nodes, seed=1))
        changed = model(window._replace(values=values), random_graph(nodes)) != before
        assert changed.any((0, 1)).tolist() == [node == 1 for node in range(nodes)]

    return check
