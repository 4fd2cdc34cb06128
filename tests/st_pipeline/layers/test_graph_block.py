"""The fused block is the two layers one by one, in value and in every gradient, whoever asks for it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.graph_block import graph_block
from st_pipeline.layers.graph_conv import GraphConv
from st_pipeline.layers.hidden_conv import HiddenConv
from st_pipeline.types import Graph

NODES, BATCH, FEATURES, HIDDEN, OUT = 6, 3, 4, 5, 2


def double(graph: Graph) -> Graph:
    return Graph(graph.num_nodes, graph.row, graph.column, graph.weight.double())


@pytest.fixture
def graph(random_graph) -> Graph:
    return double(random_graph(NODES))


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def given() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "x": draw(BATCH, NODES, FEATURES),
        "prompt": draw(NODES, FEATURES),
        "addition": draw(BATCH, NODES, HIDDEN),
        "weight_1": draw(HIDDEN, 2 * FEATURES),
        "bias_1": draw(HIDDEN),
        "weight_2": draw(2 * OUT, HIDDEN),
        "bias_2": draw(2 * OUT),
    }


def fused(graph: Graph, of: dict[str, Tensor]) -> Tensor:
    first, second = (of["weight_1"], of["bias_1"]), (of["weight_2"], of["bias_2"])
    return graph_block(of["x"], first, second, graph, addition=of.get("addition"), prompt=of.get("prompt"))


def plain(graph: Graph, of: dict[str, Tensor]) -> Tensor:
    x = of["x"] + of.get("prompt", 0)
    operator = graph.dense() / (graph.dense().sum(1, keepdim=True) + 1e-6)
    hidden = torch.cat([operator @ x, x], dim=-1) @ of["weight_1"].T + of["bias_1"] + of.get("addition", 0)
    mixed = torch.relu(hidden) @ of["weight_2"].T + of["bias_2"]
    return operator @ mixed[..., :OUT] + mixed[..., OUT:]


@pytest.mark.parametrize("left_out", [(), ("prompt",), ("addition",), ("prompt", "addition")])
def test_value_and_gradients_are_those_of_the_formula(graph, given, left_out) -> None:
    of = {name: value.requires_grad_() for name, value in given.items() if name not in left_out}
    weight = draw(BATCH, NODES, OUT)
    torch.testing.assert_close(fused(graph, of), plain(graph, of))
    found = torch.autograd.grad((fused(graph, of) * weight).sum(), list(of.values()))
    expected = torch.autograd.grad((plain(graph, of) * weight).sum(), list(of.values()))
    for name, mine, other in zip(of, found, expected, strict=True):
        torch.testing.assert_close(mine, other, msg=lambda text, name=name: f"{name}: {text}")


def test_gradients_are_right_to_second_order_differences(graph, given) -> None:
    names = list(given)
    values = [given[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(lambda *of: fused(graph, dict(zip(names, of, strict=True))), values)


@pytest.mark.parametrize("asked", [pair for size in (1, 2) for pair in itertools.combinations(range(7), size)])
def test_only_the_gradients_asked_for_are_given(graph, given, asked) -> None:
    chosen = [value.requires_grad_() for place, value in enumerate(given.values()) if place in asked]
    found = torch.autograd.grad(fused(graph, given).square().sum(), chosen)
    expected = torch.autograd.grad(plain(graph, given).square().sum(), chosen)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)
    assert not any(value.requires_grad for place, value in enumerate(given.values()) if place not in asked)


def test_two_convolutions_with_a_convolution_between_them_are_one_block(random_graph) -> None:
    graph = random_graph(NODES)
    first, middle, second = GraphConv(FEATURES, HIDDEN), HiddenConv(), GraphConv(HIDDEN, OUT)
    x = torch.randn(BATCH, NODES, FEATURES)
    expected = second(middle(torch.relu(first(x, graph))), graph)
    torch.testing.assert_close(graph_block(x, first.stacked(), second.after(middle), graph), expected)


def test_the_order_in_memory_does_not_matter(graph, given) -> None:
    turned = given | {name: given[name].transpose(0, 1).contiguous().transpose(0, 1) for name in ("x", "addition")}
    assert torch.equal(fused(graph, turned), fused(graph, given))
