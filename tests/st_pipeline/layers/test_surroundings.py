"""Distances along a graph: their values, their buckets, who is near, and that the order of sensors decides nothing."""

from __future__ import annotations

import gc
import math
import weakref

import torch

from st_pipeline.layers.surroundings import surroundings
from st_pipeline.types import Graph

BUCKETS, NEAR = 32, 4


def floyd(graph: Graph) -> list[list[float]]:
    """Shortest paths in either direction, every node tried in between."""
    count = graph.num_nodes
    length = [[0.0 if i == j else math.inf for j in range(count)] for i in range(count)]
    for i, j, weight in zip(graph.row.tolist(), graph.column.tolist(), graph.weight.tolist(), strict=True):
        if weight and i != j:
            length[i][j] = length[j][i] = min(length[i][j], length[j][i], 1 / abs(weight))
    for k in range(count):
        for i in range(count):
            for j in range(count):
                length[i][j] = min(length[i][j], length[i][k] + length[k][j])
    return length


def bucket(distance: float) -> int:
    if distance == 0:
        return 0
    if distance == math.inf:
        return BUCKETS - 1
    return 1 + min(BUCKETS - 3, max(0, math.floor(round(math.log2(distance), 6) * (BUCKETS - 2) / 10)))


def test_buckets_are_those_of_the_shortest_paths(random_graph) -> None:
    for share in (0.1, 0.3):
        graph = random_graph(9, share=share)
        expected = [[bucket(distance) for distance in row] for row in floyd(graph)]
        assert surroundings(graph, buckets=BUCKETS, near=NEAR).bucket.tolist() == expected


def test_near_are_the_nearest_and_all_or_none_of_equally_far_ones(random_graph) -> None:
    for graph in (random_graph(9, share=0.2), Graph.from_edges([0] * 3, [1, 2, 3], [0.5, 1, 1], num_nodes=6)):
        found = surroundings(graph, buckets=BUCKETS, near=NEAR).near
        for own, row in enumerate(floyd(graph)):
            near = {
                other
                for other, distance in enumerate(row)
                if distance < math.inf and sum(one <= distance + 1e-6 for one in row) <= NEAR
            }
            assert set(found[own].tolist()) == near
            assert found[own, 0] == own


def test_equally_far_sensors_are_left_out_together() -> None:
    star = Graph.from_edges([0] * 5, [1, 2, 3, 4, 5], [1.0] * 5, num_nodes=6)
    found = surroundings(star, buckets=BUCKETS, near=NEAR).near
    assert found[0].tolist() == [0] * NEAR
    assert set(found[1].tolist()) == {0, 1}


def test_paths_of_the_same_edges_in_another_order_are_equally_long() -> None:
    there, back = (0.1 + 0.2) + 0.5, (0.5 + 0.2) + 0.1
    assert there != back
    graph = Graph.from_edges([0, 1, 2, 0, 4, 5], [1, 2, 3, 4, 5, 6], [10.0, 5.0, 2.0, 2.0, 5.0, 10.0], num_nodes=7)
    assert set(surroundings(graph, buckets=BUCKETS, near=6).near[0].tolist()) == {0, 1, 2, 4, 5}


def test_buckets_are_evenly_spaced_in_the_logarithm_and_end() -> None:
    weights = [4.0, 1.0, 0.5, 0.25, 2.0**-9.5, 2.0**-20]
    graph = Graph.from_edges([0] * 6, range(1, 7), weights, num_nodes=8)
    assert surroundings(graph, buckets=BUCKETS, near=1).bucket[0].tolist() == [0, 1, 1, 4, 7, 29, 30, 31]


def test_sensors_in_another_order_are_the_same_sensors() -> None:
    random = torch.Generator().manual_seed(0)
    place = torch.arange(12)
    graph = Graph.from_edges(place, (place + 1) % 12, 0.1 + torch.rand(12, generator=random), num_nodes=12)
    order = torch.randperm(12, generator=random)
    found, moved = (surroundings(one, buckets=BUCKETS, near=NEAR) for one in (graph, graph.subgraph(order)))
    assert torch.equal(moved.bucket, found.bucket[order][:, order])
    assert torch.equal(order[moved.near].sort().values, found.near[order].sort().values)


def test_weights_of_zero_and_sensors_alone_and_fewer_than_asked_for() -> None:
    graph = Graph.from_edges([0, 1, 1], [1, 1, 2], [0.0, 1.0, -2.0], num_nodes=3)
    found = surroundings(graph, buckets=BUCKETS, near=5)
    assert found.bucket.tolist() == [[0, 31, 31], [31, 0, 1], [31, 1, 0]]
    assert found.near.tolist() == [[0] * 5, [1, 2, 1, 1, 1], [2, 1, 2, 2, 2]]
    assert surroundings(graph, buckets=BUCKETS, near=0).near.shape == (3, 0)


def test_they_are_made_once_and_kept_as_long_as_the_graph(random_graph) -> None:
    graph = random_graph(5)
    first = surroundings(graph, buckets=BUCKETS, near=NEAR)
    assert surroundings(graph, buckets=BUCKETS, near=NEAR) is first
    assert surroundings(graph, buckets=BUCKETS, near=2).near.shape == (5, 2)
    kept = weakref.ref(first.bucket)
    del first, graph
    gc.collect()
    assert kept() is None
