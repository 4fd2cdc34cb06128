"""Both directions of edges."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.graphs.base import Edges, gaussian, symmetric

pairs = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.floats(0.1, 9), max_size=12)


@given(pairs)
def test_symmetric_edges_have_the_larger_weight_of_both_ways(given_edges: dict[tuple[int, int], float]) -> None:
    row, column = np.array([*given_edges], dtype=np.int64).reshape(-1, 2).T
    weight = np.array([*given_edges.values()])
    matrix = np.zeros((5, 5))
    matrix[row, column] = weight
    found = symmetric(Edges(row, column, weight))
    again = np.zeros((5, 5))
    again[found.row, found.column] = found.weight
    assert np.array_equal(again, np.maximum(matrix, matrix.T))
    assert len(found.row) == (again > 0).sum()
    assert len(weight) == len(given_edges)


def test_the_kernel_falls_from_one() -> None:
    np.testing.assert_allclose(gaussian(np.array([0.0, 2.0, 4.0]), 2.0), [1, np.exp(-1), np.exp(-4)])
