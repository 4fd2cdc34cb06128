"""What `update` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.period_data import PeriodData


@pytest.fixture(scope="session")
def stored() -> Callable[[Mapping[str, PeriodData]], dict[str, dict[str, Any]]]:
    """`stored(history)`: tensors, adjacencies and node sets of some periods, as they lie in the lake."""

    def parts(history: Mapping[str, PeriodData]) -> dict[str, dict[str, Any]]:
        graphs = {}
        for key, data in history.items():
            entries = [part.numpy() for part in (data.graph.row, data.graph.column, data.graph.weight)]
            graphs[key] = Adjacency(key, data.nodes.ids, {}, *entries)
        return {
            "tensor": {key: data.tensor for key, data in history.items()},
            "adjacency": graphs,
            "node_set": {key: data.nodes for key, data in history.items()},
        }

    return parts
