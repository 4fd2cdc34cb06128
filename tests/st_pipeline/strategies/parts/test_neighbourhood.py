"""Neighbourhoods: those of networkx, and the published ones with their defect."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.strategies.parts.neighbourhood import k_hop, train_on, with_targets
from st_pipeline.types import Graph

edge_lists = st.integers(1, 9).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=20, unique=True),
        st.sets(st.integers(0, count - 1)),
    )
)


def graph_of(count: int, edges: list[tuple[int, int]]) -> Graph:
    rows, columns = [edge[0] for edge in edges], [edge[1] for edge in edges]
    return Graph.from_edges(rows, columns, [0.5] * len(edges), num_nodes=count)


def path(count: int = 7) -> Graph:
    """0-1-2-..., each edge in both directions, with weights below 1."""
    forward = [(node, node + 1) for node in range(count - 1)]
    return graph_of(count, forward + [(high, low) for low, high in forward])


@given(edge_lists, st.integers(0, 4))
def test_the_nodes_within_some_hops_are_those_of_networkx(drawn, hops: int) -> None:
    count, edges, seeds = drawn
    reference = nx.Graph()
    reference.add_nodes_from(range(count))
    reference.add_edges_from(edges)
    expected = {node for seed in seeds for node in nx.single_source_shortest_path_length(reference, seed, cutoff=hops)}
    found = k_hop(graph_of(count, edges), torch.tensor(list(seeds), dtype=torch.int64), hops)
    assert found.dtype == torch.int64
    assert found.tolist() == sorted(expected)


@given(edge_lists, st.integers(0, 4))
def test_the_published_hop_goes_down_only(drawn, hops: int) -> None:
    count, edges, seeds = drawn
    downward = nx.DiGraph()
    downward.add_nodes_from(range(count))
    downward.add_edges_from((max(edge), min(edge)) for edge in edges)
    expected = {node for seed in seeds for node in nx.single_source_shortest_path_length(downward, seed, cutoff=hops)}
    rows = torch.tensor(list(seeds), dtype=torch.int64)
    assert k_hop(graph_of(count, edges), rows, hops, lower_only=True).tolist() == sorted(expected)


def test_the_published_example_on_a_path() -> None:
    assert k_hop(path(), torch.tensor([3]), 2).tolist() == [1, 2, 3, 4, 5]
    assert k_hop(path(), torch.tensor([3]), 2, lower_only=True).tolist() == [1, 2, 3]


def test_training_sees_the_neighbourhood_and_counts_the_chosen() -> None:
    selection = train_on(torch.tensor([5, 3, 5]), path(), hops=1)
    assert selection.train
    assert selection.nodes.nonzero().flatten().tolist() == [3, 5]
    assert selection.rows.tolist() == [2, 3, 4, 5, 6]
    assert selection.graph is None
    assert selection.windows is None


@pytest.mark.parametrize("published", [False, True])
def test_nothing_chosen_is_no_training(published: bool) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert not train_on(nothing, path(), published=published).train


def test_a_published_neighbourhood_has_weights_of_one_in_both_directions() -> None:
    graph = Graph.from_edges([0, 2, 1, 2], [1, 1, 2, 3], [0.3, 0.4, 0.5, 0.6], num_nodes=5)
    selection = train_on(torch.tensor([2, 4]), graph, hops=2, published=True)
    assert selection.rows.tolist() == [0, 1, 2]
    assert torch.equal(selection.graph.dense(), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))


def test_an_isolated_sensor_is_trained_unless_as_published() -> None:
    graph = graph_of(4, [(0, 1), (1, 0)])
    sound = train_on(torch.tensor([3]), graph)
    assert sound.nodes.tolist() == [False, False, False, True]
    assert sound.rows.tolist() == [3]
    assert not train_on(torch.tensor([3]), graph, published=True).train
    both = train_on(torch.tensor([1, 3]), graph, published=True)
    assert both.nodes.tolist() == [False, True, False, False]
    assert both.rows.tolist() == [0, 1]


@pytest.mark.parametrize(("protocol", "expected"), [("sound", [3, 0]), ("paper", [3, 1, 0])])
def test_only_sensors_with_a_target_can_be_learned(make_part, protocol: str, expected: list[int]) -> None:
    part = make_part(nodes=4, protocol=protocol)
    if protocol == "sound":
        observed = part.windows.target_observed.clone()
        observed[:, 1] = False
        part = replace(part, windows=replace(part.windows, target_observed=observed))
    assert with_targets(torch.tensor([3, 1, 0]), part).tolist() == expected
