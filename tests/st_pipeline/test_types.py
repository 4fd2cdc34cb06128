"""Graphs propagate as the dense operator says, on either path; node sets find their sensors and survive JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline import types
from st_pipeline.types import EPSILON, Graph, NodeSet, Normalisation

NORMALISATIONS: tuple[Normalisation, ...] = ("none", "row", "symmetric")
EDGES = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.floats(0.125, 2, width=32)), max_size=30),
    )
)


def oracle(adjacency: np.ndarray, normalise: Normalisation) -> np.ndarray:
    """The operator as it is written in the papers, in double precision."""
    degree = adjacency.sum(axis=1) + EPSILON
    if normalise == "row":
        return adjacency / degree[:, None]
    return adjacency / np.sqrt(np.outer(degree, degree)) if normalise == "symmetric" else adjacency


def double(graph: Graph) -> Graph:
    return Graph(graph.num_nodes, graph.row, graph.column, graph.weight.double())


@pytest.fixture(params=["dense", "sparse"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to multiply, whatever the size of the graph."""
    monkeypatch.setattr(types, "DENSE_NODES", 10_000 if request.param == "dense" else 0)
    return str(request.param)


@given(EDGES, st.randoms(use_true_random=False))
def test_edges_in_any_order_make_the_same_sorted_graph_and_duplicates_are_summed(drawn, random) -> None:
    nodes, edges = drawn
    expected = np.zeros((nodes, nodes))
    for row, column, weight in edges:
        expected[row, column] += weight
    shuffled = random.sample(edges, len(edges))
    graphs = [Graph.from_edges(*(zip(*order, strict=True) if order else ([], [], [])), num_nodes=nodes)
              for order in (edges, shuffled)]  # fmt: skip
    for graph in graphs:
        np.testing.assert_allclose(graph.dense().numpy(), expected, rtol=1e-6)
        pairs = list(zip(graph.row.tolist(), graph.column.tolist(), strict=True))
        assert pairs == sorted(set(pairs))
        assert graph.num_edges == len({edge[:2] for edge in edges})
    assert torch.equal(graphs[0].row, graphs[1].row)
    assert torch.equal(graphs[0].column, graphs[1].column)


@pytest.mark.parametrize(
    ("row", "column", "weight", "problem"),
    [
        ([0, 3], [1, 1], [1.0, 1.0], "outside 0..2"),
        ([0, 1], [1, -1], [1.0, 1.0], "outside 0..2"),
        ([0, 1], [1], [1.0, 1.0], "one length"),
        ([0], [1], [[1.0]], "one length"),
        ([[0]], [[1]], [[1.0]], "one length"),
        ([0], [1], [float("nan")], "finite"),
        ([0], [1], [float("inf")], "finite"),
    ],
)
def test_edges_that_make_no_graph_are_refused(row, column, weight, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        Graph.from_edges(row, column, weight, num_nodes=3)


def test_read_only_arrays_are_copied(recwarn: pytest.WarningsRecorder) -> None:
    row, weight = np.array([0, 1]), np.array([1.0, 2.0])
    row.flags.writeable = weight.flags.writeable = False
    graph = Graph.from_edges(row, row, weight, num_nodes=2)
    graph.weight.mul_(5)
    assert weight.tolist() == [1.0, 2.0]
    assert not recwarn.list


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (0, 2)])
def test_propagation_is_the_normalised_matrix_product(path, random_graph, normalise, leading) -> None:
    graph = double(random_graph(9, seed=1))
    x = torch.randn(*leading, 9, 4, dtype=torch.float64)
    expected = np.einsum("mn,...nc->...mc", oracle(graph.dense().numpy(), normalise), x.numpy())
    np.testing.assert_allclose(graph.propagate(x, normalise=normalise).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_propagation_gathers_from_columns_and_normalises_by_row_unless_told_otherwise(path) -> None:
    graph = Graph.from_edges([0, 0], [1, 2], [1.0, 3.0], num_nodes=3)
    x = torch.tensor([[10.0], [1.0], [2.0]])
    assert graph.propagate(x, normalise="none").flatten().tolist() == [7.0, 0.0, 0.0]
    np.testing.assert_allclose(graph.propagate(x).flatten(), [7 / 4, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_gradients_are_right_on_both_paths(path, random_graph, normalise) -> None:
    graph = double(random_graph(5, seed=2))
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: graph.propagate(value, normalise=normalise), x)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_a_large_graph_takes_the_sparse_path_and_agrees_with_the_dense_one(
    random_graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, normalise: Normalisation
) -> None:
    size = types.DENSE_NODES + 44
    graph = random_graph(size, share=0.02)
    x = torch.randn(2, 3, size, 4, requires_grad=True)
    weight = torch.randn(2, 3, size, 4)
    sparse = graph.propagate(x, normalise=normalise)
    assert not isinstance(graph._operators[normalise], torch.Tensor)
    (gradient,) = torch.autograd.grad((sparse * weight).sum(), x)
    monkeypatch.setattr(types, "DENSE_NODES", size)
    dense = graph.to("cpu").propagate(x, normalise=normalise)
    (expected,) = torch.autograd.grad((dense * weight).sum(), x)
    torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("nodes", [0, 1, 4])
def test_nodes_without_neighbours_gather_nothing(path, normalise, nodes) -> None:
    graph = Graph.from_edges([], [], [], num_nodes=nodes)
    gathered = graph.propagate(torch.randn(2, nodes, 3), normalise=normalise)
    assert gathered.shape == (2, nodes, 3)
    assert not gathered.any()
    lonely = Graph.from_edges([0, 1], [1, 0], [1.0, 1.0], num_nodes=nodes + 2)
    out = lonely.propagate(torch.ones(nodes + 2, 1), normalise=normalise)
    assert out.isfinite().all()
    assert not out[2:].any()


@given(EDGES, st.data())
def test_a_subgraph_holds_the_weights_among_its_nodes_in_their_order(drawn, data) -> None:
    nodes, edges = drawn
    graph = Graph.from_edges(*(zip(*edges, strict=True) if edges else ([], [], [])), num_nodes=nodes)
    rows = data.draw(st.lists(st.integers(0, nodes - 1), unique=True))
    part = graph.subgraph(torch.tensor(rows, dtype=torch.int64))
    assert part.num_nodes == len(rows)
    assert torch.equal(part.dense(), graph.dense()[rows][:, rows])


def test_cohorts_are_the_rows_by_birth_period_oldest_first() -> None:
    nodes = NodeSet("3", ("x", "y", "z", "w"), births={"w": "1", "x": "2", "y": "1", "z": "3", "gone": "1"})
    assert list(nodes.cohorts.items()) == [("1", [1, 3]), ("2", [0]), ("3", [2])]


@given(st.lists(st.text(min_size=1, max_size=3), unique=True, min_size=1), st.data())
def test_rows_are_found_by_name(names, data) -> None:
    nodes = NodeSet.of(names)
    wanted = data.draw(st.lists(st.sampled_from(names)))
    assert [nodes.ids[row] for row in nodes.index_of(wanted)] == wanted
    with pytest.raises(KeyError):
        nodes.index_of(["not a sensor"])


def test_a_first_node_set_is_all_added_and_a_later_one_splits_in_three() -> None:
    first = NodeSet.of(["p", "q"], period="7")
    assert (len(first), first.added, first.retained, first.cohorts) == (2, ("p", "q"), (), {"7": [0, 1]})
    later = NodeSet("8", ("q", "r", "s"), added=("s",), returned=("r",), births={"q": "7", "r": "6", "s": "8"})
    assert later.retained == ("q",)


@given(
    ids=st.lists(st.text(max_size=4), unique=True, max_size=6),
    silence=st.dictionaries(st.text(max_size=4), st.integers(0, 9), max_size=4),
)
def test_a_node_set_survives_json(ids, silence) -> None:
    births = dict.fromkeys([*ids, *silence], "2012-01")
    nodes = NodeSet(
        "2012-07", tuple(ids), added=tuple(ids[:1]), returned=tuple(ids[1:2]), silent=tuple(ids[2:3]),
        moved=tuple(ids[3:4]), retired=("old",), births=births, silence=silence,
    )  # fmt: skip
    assert NodeSet.from_json(json.loads(json.dumps(nodes.to_json()))) == nodes
