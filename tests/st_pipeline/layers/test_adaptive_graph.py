"""Learned graphs are their formulas, entry by entry, and follow the sensors of their tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.adaptive_graph import AdaptiveGraph, DirectedGraph, gather, largest, softmax_graph
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import count_parameters

NODES = 6


def plain_softmax(source: list[list[float]], target: list[list[float]]) -> Tensor:
    """One entry at a time, in Python's own arithmetic."""
    rows = []
    for one in source:
        scores = [max(0.0, sum(a * b for a, b in zip(one, other, strict=True))) for other in target]
        total = sum(map(math.exp, scores))
        rows.append([math.exp(score) / total for score in scores])
    return torch.tensor(rows)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_adaptive_graph_is_the_softmax_of_products(symmetric: bool) -> None:
    learned = AdaptiveGraph(NODES, 4, symmetric=symmetric)
    source = learned.source.table()
    target = source if learned.target is None else learned.target.table()
    expected = plain_softmax(source.tolist(), target.tolist())
    torch.testing.assert_close(learned(), expected)
    torch.testing.assert_close(learned().sum(1), torch.ones(NODES))
    assert count_parameters(learned) == NODES * 4 * (1 if symmetric else 2)


def test_new_rows_vary_as_a_standard_normal_does() -> None:
    rows = AdaptiveGraph(2000, 10).source.table()
    torch.testing.assert_close(rows.std(), torch.tensor(1.0), rtol=0.02, atol=0)


def test_graphs_of_every_window_are_those_of_each_window() -> None:
    source, target = torch.randn(3, NODES, 4), torch.randn(3, NODES, 4)
    each = torch.stack([softmax_graph(one, two) for one, two in zip(source, target, strict=True)])
    torch.testing.assert_close(softmax_graph(source, target), each)
    assert torch.equal(softmax_graph(source), softmax_graph(source, source))


def test_without_loops_a_node_gathers_from_the_others_alone() -> None:
    source = torch.randn(NODES, 4)
    found = softmax_graph(source, loops=False)
    scores = torch.relu(source @ source.T).exp()
    scores.fill_diagonal_(0)
    torch.testing.assert_close(found, scores / scores.sum(1, keepdim=True))
    assert not found.diagonal().any()


def test_a_single_node_without_a_loop_gathers_nothing_and_has_finite_gradients() -> None:
    source = torch.randn(1, 4, requires_grad=True)
    found = softmax_graph(source, loops=False)
    assert found.tolist() == [[0.0]]
    (gradient,) = torch.autograd.grad(found.sum(), [source])
    assert gradient.isfinite().all()


def plain_directed(graph: DirectedGraph) -> Tensor:
    """One entry at a time from the formula; a row's largest scores are kept."""
    parameters = {name: value.double() for name, value in graph.state_dict().items()}
    one = torch.tanh(3 * (parameters["source.rows"] @ parameters["outward.weight"].T + parameters["outward.bias"]))
    two = torch.tanh(3 * (parameters["target.rows"] @ parameters["inward.weight"].T + parameters["inward.bias"]))
    out = torch.zeros(NODES, NODES, dtype=torch.float64)
    for row in range(NODES):
        scores = [float(one[row] @ two[column] - two[row] @ one[column]) for column in range(NODES)]
        for column in sorted(range(NODES), key=scores.__getitem__, reverse=True)[: graph.neighbours]:
            out[row, column] = max(0.0, math.tanh(3 * scores[column]))
    return out.float()


@pytest.mark.parametrize("neighbours", [1, 2, 20])
def test_the_directed_graph_is_the_formula_with_the_largest_of_each_row(neighbours: int) -> None:
    torch.manual_seed(0)
    learned = DirectedGraph(NODES, 5, neighbours=neighbours)
    found = learned()
    torch.testing.assert_close(found, plain_directed(learned), rtol=1e-4, atol=1e-5)
    assert ((found > 0).sum(1) <= neighbours).all()
    assert not ((found > 0) & (found.T > 0)).any()
    assert found.any()


def test_weights_that_the_tanh_makes_equal_are_ranked_by_what_they_were() -> None:
    torch.manual_seed(0)
    learned = DirectedGraph(30, 40, neighbours=3)
    full = DirectedGraph(30, 40, neighbours=30)
    full.load_state_dict(learned.state_dict())
    assert ((full() == 1).sum(1) > 3).any()  # the case that matters
    order = torch.randperm(30)
    other = DirectedGraph(30, 40, neighbours=3)
    state = {name: value[order] if name.endswith("rows") else value for name, value in learned.state_dict().items()}
    other.load_state_dict(state)
    torch.testing.assert_close(other(), learned()[order][:, order])


@pytest.mark.parametrize("make", [AdaptiveGraph, DirectedGraph])
def test_a_part_of_the_network_has_a_graph_of_its_own_nodes(make: type[torch.nn.Module]) -> None:
    learned, rows = make(NODES, 4), torch.tensor([4, 1])
    with restricted(learned, rows):
        part = learned()
    assert part.shape == (2, 2)
    if isinstance(learned, DirectedGraph):
        torch.testing.assert_close(part, learned()[rows][:, rows])
    else:
        torch.testing.assert_close(part.sum(1), torch.ones(2))


@pytest.mark.parametrize("make", [AdaptiveGraph, DirectedGraph])
def test_all_parameters_learn(make: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    learned = make(NODES, 4)
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter.mul_(0.3)  # away from where the tanh is flat
    (learned() * torch.randn(NODES, NODES)).sum().backward()
    for name, parameter in learned.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any() == (parameter.numel() > 0), name


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    source, target = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one, two, y: gather(softmax_graph(one, two), y), (source, target, x))
    assert torch.autograd.gradcheck(lambda one: softmax_graph(one, loops=False), (source,))


def test_the_largest_are_as_many_as_there_are() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert largest(scores, 2).tolist() == [[True, False, True], [False, True, True]]
    assert largest(scores, 9).all()


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_gathering_is_the_product_on_the_node_axis(leading: tuple[int, ...]) -> None:
    adjacency, x = torch.randn(NODES, NODES), torch.randn(*leading, NODES, 4)
    expected = torch.einsum("mn,...nc->...mc", adjacency, x)
    torch.testing.assert_close(gather(adjacency, x), expected, rtol=1e-4, atol=1e-5)
    first = x.movedim(-2, 0).contiguous().movedim(0, -2)
    torch.testing.assert_close(gather(adjacency, first), expected, rtol=1e-4, atol=1e-5)
