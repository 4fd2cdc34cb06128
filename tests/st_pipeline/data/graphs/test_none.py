"""The empty graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest


@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_sensor_is_on_its_own(
    adjacency_of: Callable[..., np.ndarray], make_edges: Callable[..., pl.DataFrame], count: int
) -> None:
    plane = np.random.default_rng(0).uniform(size=(count, 2))
    assert not adjacency_of({"name": "none"}, plane, edges=make_edges(("0", "1", 1.0, 1.0))).any()
