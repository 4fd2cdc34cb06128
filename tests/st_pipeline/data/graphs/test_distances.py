"""The Gaussian kernel of given distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from st_pipeline.errors import InputError

Dense = Callable[..., np.ndarray]
MakeEdges = Callable[..., pl.DataFrame]
GIVEN = {("a", "b"): 100.0, ("b", "c"): 300.0, ("c", "b"): 250.0, ("c", "d"): 900.0}


def given(make_edges: MakeEdges) -> pl.DataFrame:
    return make_edges(*((*pair, distance, None) for pair, distance in GIVEN.items()))


def dense(weights: dict[tuple[str, str], float]) -> np.ndarray:
    matrix = np.zeros((4, 4))
    for pair, weight in weights.items():
        matrix[tuple("abcd".index(name) for name in pair)] = weight
    return matrix


@pytest.mark.parametrize("sigma", [None, 500.0])
@pytest.mark.parametrize("threshold", [0.01, 0.5])
@pytest.mark.parametrize("both_ways", [True, False])
def test_weights_are_those_of_the_formula(
    adjacency_of: Dense, make_edges: MakeEdges, sigma: float | None, threshold: float, both_ways: bool
) -> None:
    scale = sigma or np.std(list(GIVEN.values()))
    expected = dense({pair: np.exp(-((distance / scale) ** 2)) for pair, distance in GIVEN.items()})
    expected = np.where(expected >= threshold, expected, 0)
    spec = {"name": "distances", "sigma": sigma, "threshold": threshold, "both_ways": both_ways}
    found = adjacency_of(spec, edges=given(make_edges), ids="abcd")
    np.testing.assert_allclose(found, np.maximum(expected, expected.T) if both_ways else expected)


def test_only_distances_between_nodes_of_the_period_set_the_scale(adjacency_of: Dense, make_edges: MakeEdges) -> None:
    spec = {"name": "distances", "threshold": 0.001}
    found = adjacency_of(spec, edges=given(make_edges), ids="abc")
    assert found[0, 1] == pytest.approx(np.exp(-((100 / np.std([100, 300, 250])) ** 2)))


@pytest.mark.parametrize("length", [0.0, 0.1, 500.0])
@pytest.mark.parametrize("count", [1, 3])
def test_equal_distances_are_all_kept(adjacency_of: Dense, make_edges: MakeEdges, length: float, count: int) -> None:
    edges = make_edges(*[("a", "b", length, None), ("b", "c", length, None), ("c", "d", length, None)][:count])
    found = adjacency_of({"name": "distances"}, edges=edges, ids="abcd")
    assert (found > 0).sum() == 2 * count
    np.testing.assert_allclose(found[found > 0], np.exp(-1) if length else 1)


def test_the_shorter_of_two_given_distances_counts(adjacency_of: Dense, make_edges: MakeEdges) -> None:
    edges = make_edges(("a", "b", 5.0, None), ("a", "b", 3.0, None), ("a", "b", None, None))
    found = adjacency_of({"name": "distances", "sigma": 3.0}, edges=edges, ids="ab")
    assert found[0, 1] == pytest.approx(np.exp(-1))


@pytest.mark.parametrize("threshold", [0, 1])
def test_an_impossible_threshold_is_refused(adjacency_of: Dense, make_edges: MakeEdges, threshold: float) -> None:
    with pytest.raises(InputError, match=r"graph\.threshold is"):
        adjacency_of({"name": "distances", "threshold": threshold}, edges=given(make_edges), ids="ab")
