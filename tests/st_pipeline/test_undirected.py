"""Graphs without directions: their weights, their spectrum, and that they are made once."""

from __future__ import annotations

import gc
import weakref

import torch

from st_pipeline.types import Graph


def test_the_weights_are_the_mean_of_both_directions(random_graph) -> None:
    graph = random_graph(7)
    torch.testing.assert_close(graph.undirected.dense(), (graph.dense() + graph.dense().T) / 2)


def test_a_symmetric_graph_stays_what_it_is() -> None:
    graph = Graph.from_edges([0, 1, 1, 2, 2], [1, 0, 2, 1, 2], [0.3, 0.3, 0.7, 0.7, 0.9], num_nodes=4)
    assert torch.equal(graph.undirected.dense(), graph.dense())


def test_the_spectrum_ends_at_one_even_where_a_sensor_gathers_from_nobody() -> None:
    graph = Graph.from_edges([1, 2, 3], [0, 0, 2], [1.0, 0.5, 0.1], num_nodes=5)  # 0 and 4 have no row
    directed, both = (
        torch.linalg.matrix_norm(one.operator("symmetric").matrix, 2) for one in (graph, graph.undirected)
    )
    assert directed > 100
    assert both <= 1 + 1e-5


def test_it_is_made_once_and_forgotten_with_its_graph(random_graph) -> None:
    graph = random_graph(5)
    made = graph.undirected
    assert graph.undirected is made
    gone = weakref.ref(made)
    del graph, made
    gc.collect()
    assert gone() is None
