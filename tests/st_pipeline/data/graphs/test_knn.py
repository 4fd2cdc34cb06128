"""Nearest neighbours, against a search through all pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import InputError

Dense = Callable[..., np.ndarray]


def brute_force(distance: np.ndarray, k: int, sigma: float | None = None) -> np.ndarray:
    apart = np.where(np.eye(len(distance), dtype=bool), np.inf, distance)
    nearest = np.argsort(apart, axis=1)[:, :k]
    sigma = sigma or float(np.median(np.take_along_axis(apart, nearest, axis=1)[:, -1]))
    near = np.zeros(distance.shape, dtype=bool)
    np.put_along_axis(near, nearest, True, axis=1)
    return np.where(near | near.T, np.exp(-((distance / sigma) ** 2)), 0)


@given(st.integers(0, 2**32 - 1), st.integers(7, 40), st.integers(1, 6), st.sampled_from([None, 3000.0]), st.booleans())
def test_edges_are_those_of_a_search_through_all_pairs(
    adjacency_of: Dense,
    distances_of: Dense,
    seed: int,
    count: int,
    k: int,
    sigma: float | None,
    geographic: bool,
) -> None:
    plane = np.random.default_rng(seed).uniform(0, 1, (count, 2)) * (0.1 if geographic else 5000) + (13, 52)
    found = adjacency_of({"name": "knn", "k": k, "sigma": sigma}, plane, geographic=geographic)
    expected = brute_force(distances_of(plane, geographic=geographic), k, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.array_equal(found, found.T)
    assert ((found > 0).sum(axis=1) >= k).all()


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_small_network_is_complete(adjacency_of: Dense, count: int) -> None:
    found = adjacency_of({"name": "knn", "k": 5}, np.random.default_rng(0).uniform(size=(count, 2)))
    assert np.array_equal(found > 0, ~np.eye(count, dtype=bool))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_sensors_at_one_place_are_neighbours_of_each_other(adjacency_of: Dense, k: int) -> None:
    plane = [(0, 0)] * 9 + [(10, 0), (20, 0)]
    found = adjacency_of({"name": "knn", "k": k}, plane)
    assert ((found > 0).sum(axis=1) >= k).all()
    assert set(found[:9, :9].ravel()) == {0, 1}


def test_a_sensor_without_a_position_has_no_edges(adjacency_of: Dense) -> None:
    found = adjacency_of({"name": "knn", "k": 1}, [(0, 0), (np.nan, 0), (1, 0), (0, np.nan)])
    assert np.argwhere(found).tolist() == [[0, 2], [2, 0]]


def test_less_than_one_neighbour_is_refused(adjacency_of: Dense) -> None:
    with pytest.raises(InputError, match=r"graph\.k is 0"):
        adjacency_of({"name": "knn", "k": 0}, [(0, 0)])
