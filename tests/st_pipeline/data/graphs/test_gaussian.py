"""The Gaussian kernel with a threshold, against its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import InputError

Dense = Callable[..., np.ndarray]
CITIES = [(13.4, 52.5), (13.5, 52.4), (13.3, 52.6), (13.42, 52.51), (179.99, 10.0), (-179.99, 10.0)]


def formula(distance: np.ndarray, threshold: float, sigma: float | None = None) -> np.ndarray:
    """Appendix D of the EAC paper: exp(-d^2 / sigma^2) at or above the threshold, off the diagonal."""
    apart = ~np.eye(len(distance), dtype=bool)
    weight = np.exp(-(distance**2) / (sigma or distance[apart].std()) ** 2)
    return np.where((weight >= threshold) & apart, weight, 0)


@given(
    st.integers(0, 2**32 - 1), st.integers(3, 40), st.sampled_from([0.05, 0.5, 0.95]), st.sampled_from([None, 900.0])
)
def test_weights_are_those_of_the_formula(
    adjacency_of: Dense, distances_of: Dense, seed: int, count: int, threshold: float, sigma: float | None
) -> None:
    plane = np.random.default_rng(seed).uniform(0, 5000, (count, 2))
    found = adjacency_of({"name": "gaussian", "threshold": threshold, "sigma": sigma}, plane)
    np.testing.assert_allclose(found, formula(distances_of(plane), threshold, sigma), rtol=1e-9)
    assert np.array_equal(found, found.T)


@pytest.mark.parametrize("sigma", [None, 12_000.0])
def test_geographic_distances_are_great_circles(adjacency_of: Dense, distances_of: Dense, sigma: float | None) -> None:
    found = adjacency_of({"name": "gaussian", "threshold": 0.1, "sigma": sigma}, CITIES, geographic=True)
    expected = formula(distances_of(CITIES, geographic=True), 0.1, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[4, 5] > 0  # across the date line


def test_a_higher_threshold_keeps_a_part_of_the_edges_and_their_weights(adjacency_of: Dense) -> None:
    plane = np.random.default_rng(0).uniform(0, 5000, (30, 2))
    low, high = (adjacency_of({"name": "gaussian", "threshold": limit}, plane) for limit in (0.3, 0.7))
    assert 0 < (high > 0).sum() < (low > 0).sum()
    assert np.array_equal(high, np.where(low >= 0.7, low, 0))


@pytest.mark.parametrize("plane", [[], [(0, 0)], [(0, 0), (5, 5)], [(7, 7)] * 4])
def test_without_two_different_distances_there_is_no_scale_and_no_edge(adjacency_of: Dense, plane: Any) -> None:
    assert not adjacency_of({"name": "gaussian"}, plane).any()


def test_sensors_at_one_place_are_joined_with_weight_one(adjacency_of: Dense) -> None:
    found = adjacency_of({"name": "gaussian", "sigma": 10.0}, [(7, 7), (7, 7), (900, 7)])
    assert found.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_a_sensor_without_a_position_has_no_edges_and_changes_nothing(adjacency_of: Dense) -> None:
    plane = np.random.default_rng(0).uniform(0, 5000, (12, 2))
    holed = np.insert(plane, 4, np.nan, axis=0)
    found = adjacency_of({"name": "gaussian"}, holed)
    assert not found[4].any()
    assert np.array_equal(np.delete(np.delete(found, 4, 0), 4, 1), adjacency_of({"name": "gaussian"}, plane))


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": 1}, {"sigma": 0}, {"sigma": -5.0}])
def test_impossible_options_are_refused(adjacency_of: Dense, options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"graph\.{next(iter(options))} is"):
        adjacency_of({"name": "gaussian", **options}, [(0, 0)])
