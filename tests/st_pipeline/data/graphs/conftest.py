"""What a recipe is given, and its edges as a dense matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.data.graphs import graph_recipes
from st_pipeline.data.graphs.base import GraphSource
from st_pipeline.data.positions import Positions


@pytest.fixture(scope="session")
def adjacency_of() -> Callable[..., np.ndarray]:
    """`adjacency_of({"name": recipe, ...}, plane, geographic=False, edges=None, ids=None)`: dense (N, N), 0 if no edge.

    Every matrix is checked: no self loops, no pair twice, finite weights above 0.
    """

    def make(
        spec: dict[str, Any],
        plane: Any = None,
        *,
        geographic: bool = False,
        edges: pl.DataFrame | None = None,
        ids: str | None = None,
    ) -> np.ndarray:
        names = tuple(ids) if ids is not None else tuple(str(number) for number in range(len(plane)))
        places = np.full((len(names), 2), np.nan) if plane is None else np.asarray(plane, float).reshape(-1, 2)
        found = graph_recipes.build(spec).edges(GraphSource(names, Positions(places, geographic), edges))
        assert not (found.row == found.column).any()
        assert len(set(zip(found.row.tolist(), found.column.tolist(), strict=True))) == len(found.row)
        assert np.isfinite(found.weight).all()
        assert (found.weight > 0).all()
        matrix = np.zeros((len(names), len(names)))
        matrix[found.row, found.column] = found.weight
        return matrix

    return make


@pytest.fixture(scope="session")
def distances_of() -> Callable[..., np.ndarray]:
    """`distances_of(plane, geographic=False)`: dense (N, N) in metres, great circles by the haversine formula."""

    def make(plane: Any, *, geographic: bool = False) -> np.ndarray:
        one, other = (np.asarray(plane, float)[axis] for axis in ((slice(None), None), (None, slice(None))))
        if not geographic:
            return np.hypot(*np.moveaxis(one - other, -1, 0))
        (lon1, lat1), (lon2, lat2) = (np.moveaxis(np.radians(part), -1, 0) for part in (one, other))
        half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
        return 2 * 6_371_008.8 * np.arcsin(np.sqrt(half))

    return make
