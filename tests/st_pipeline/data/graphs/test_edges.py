"""Edges with given weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from st_pipeline.errors import InputError

Dense = Callable[..., np.ndarray]
MakeEdges = Callable[..., pl.DataFrame]


def test_weights_are_raw_and_directed(adjacency_of: Dense, make_edges: MakeEdges) -> None:
    edges = make_edges(("a", "b", None, 0.25), ("b", "c", None, 40.0), ("c", "b", None, 3.0))
    assert adjacency_of({"name": "edges"}, edges=edges, ids="abc").tolist() == [[0, 0.25, 0], [0, 0, 40], [0, 3, 0]]


def test_both_ways_takes_the_larger_weight(adjacency_of: Dense, make_edges: MakeEdges) -> None:
    edges = make_edges(("a", "b", None, 0.25), ("b", "c", None, 40.0), ("c", "b", None, 3.0))
    found = adjacency_of({"name": "edges", "both_ways": True}, edges=edges, ids="abc")
    assert found.tolist() == [[0, 0.25, 0], [0.25, 0, 40], [0, 40, 0]]


def test_the_nodes_of_the_period_choose_the_edges_and_their_order(adjacency_of: Dense, make_edges: MakeEdges) -> None:
    edges = make_edges(("a", "b", None, 2.0), ("b", "gone", None, 5.0), ("gone", "a", None, 5.0))
    assert adjacency_of({"name": "edges"}, edges=edges, ids="bca").tolist() == [[0, 0, 0], [0, 0, 0], [2, 0, 0]]
    assert adjacency_of({"name": "edges"}, edges=edges, ids="").shape == (0, 0)


def test_loops_repetitions_and_rows_without_a_weight_make_no_edge(adjacency_of: Dense, make_edges: MakeEdges) -> None:
    edges = make_edges(("a", "a", None, 9.0), ("a", "b", None, 2.0), ("a", "b", None, 1.0), ("b", "a", None, None))
    for table in (edges, edges.reverse()):
        assert adjacency_of({"name": "edges"}, edges=table, ids="ab").tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(("recipe", "value"), [("edges", "weight"), ("distances", "distance")])
def test_what_the_source_does_not_give_is_told(
    adjacency_of: Dense, make_edges: MakeEdges, recipe: str, value: str
) -> None:
    with pytest.raises(InputError, match=f"needs edges with a {value}; set source.edges"):
        adjacency_of({"name": recipe}, ids="ab")
    with pytest.raises(InputError, match=f"the given edges have no {value}"):
        adjacency_of({"name": recipe}, edges=make_edges(("a", "b", None, None)), ids="ab")
    assert not adjacency_of({"name": recipe}, edges=make_edges(), ids="ab").any()
