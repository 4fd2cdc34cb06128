"""The spectral layer against the polynomials of its operator's eigenvalues, whichever side travels over the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from st_pipeline.layers.chebyshev import ChebConv
from st_pipeline.types import DENSE_NODES, Graph

SIZES = [(2, 6), (6, 2), (4, 4)]


def undirected(num_nodes: int, *, seed: int = 0) -> Graph:
    """A ring, so that every node has an edge, with random chords; weights in (0.1, 1)."""
    random = np.random.default_rng(seed)
    weight = np.triu(random.uniform(0.1, 1, (num_nodes, num_nodes)) * (random.random((num_nodes, num_nodes)) < 0.3), 1)
    weight[np.arange(num_nodes - 1), np.arange(1, num_nodes)] = 0.5
    weight += weight.T
    row, column = np.nonzero(weight)
    return Graph.from_edges(row, column, weight[row, column], num_nodes=num_nodes)


def polynomials(graph: Graph, *, laplacian: bool) -> Tensor:
    """(3, N, N): cos(k arccos lambda) of every eigenvalue of the dense operator, put back together."""
    weight = graph.dense().double().numpy()
    degree = weight.sum(1)
    operator = weight / degree[:, None]
    if laplacian:
        operator = 2 * (np.eye(len(weight)) - weight / np.sqrt(np.outer(degree, degree))) / 2 - np.eye(len(weight))
    values, vectors = np.linalg.eig(operator)
    angles = np.arccos(values.real.clip(-1, 1))
    matrices = [vectors @ np.diag(np.cos(order * angles)) @ np.linalg.inv(vectors) for order in range(3)]
    return torch.tensor(np.stack(matrices).real, dtype=torch.float32)


def make(inputs: int, outputs: int, *, laplacian: bool) -> ChebConv:
    torch.manual_seed(0)
    return ChebConv(inputs, outputs, laplacian=laplacian)


@pytest.mark.parametrize("num_nodes", [7, DENSE_NODES + 20])
@pytest.mark.parametrize("laplacian", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_values_and_gradients_are_those_of_the_eigenvalues(
    num_nodes: int, laplacian: bool, inputs: int, outputs: int
) -> None:
    graph, layer = undirected(num_nodes), make(inputs, outputs, laplacian=laplacian)
    x = torch.randn(3, num_nodes, inputs, requires_grad=True)
    found = layer(x, graph)
    terms = torch.einsum("kmn,bni,kio->bmo", polynomials(graph, laplacian=laplacian), x, layer.weight)
    expected = terms + layer.bias
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    to, weight = [x, layer.weight, layer.bias], torch.randn_like(found)
    mine = torch.autograd.grad((found * weight).sum(), to)
    torch.testing.assert_close(mine, torch.autograd.grad((expected * weight).sum(), to), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("laplacian", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_any_leading_axes_and_any_order_in_memory_give_the_same(
    random_graph, laplacian: bool, inputs: int, outputs: int
) -> None:
    graph, layer = random_graph(7), make(inputs, outputs, laplacian=laplacian)
    x = torch.randn(2, 5, 7, inputs)
    nodes_first = x.movedim(-2, 0).contiguous().movedim(0, -2)
    expected = torch.stack([layer(step, graph) for step in x.unbind(1)], dim=1)
    torch.testing.assert_close(layer(x, graph), expected)
    torch.testing.assert_close(layer(nodes_first, graph), expected)


def test_a_directed_edge_carries_from_its_column_to_its_row() -> None:
    graph, layer = Graph.from_edges([0], [1], [2.0], num_nodes=3), make(1, 1, laplacian=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.0, 1, 0])[:, None, None])
        layer.bias.zero_()
    torch.testing.assert_close(layer(torch.tensor([[1.0], [10], [100]]), graph), torch.tensor([[10.0], [0], [0]]))


@pytest.mark.parametrize("laplacian", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_a_node_without_edges_keeps_what_is_its_own(laplacian: bool, inputs: int, outputs: int) -> None:
    graph, layer = Graph.from_edges([], [], [], num_nodes=4), make(inputs, outputs, laplacian=laplacian)
    x = torch.randn(2, 4, inputs)
    torch.testing.assert_close(layer(x, graph), x @ (layer.weight[0] - layer.weight[2]) + layer.bias)


def test_weight_and_bias_start_within_the_published_bound_and_are_drawn_anew() -> None:
    layer = make(12, 64, laplacian=False)
    bound = (12 * 64) ** -0.5
    assert layer.weight.shape == (3, 12, 64)
    for parameter in (layer.weight, layer.bias):
        before = parameter.detach().clone()
        assert 0.8 * bound < before.abs().max() <= bound
        layer.reset_parameters()
        assert not (parameter == before).any()
