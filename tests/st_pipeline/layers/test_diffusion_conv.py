"""Diffusion along and against the edges: against dense polynomials, in both orders of computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from st_pipeline.layers.diffusion_conv import DiffusionConv, chebyshev_sum, chebyshev_terms
from st_pipeline.types import Graph

NODES = 6
WIDTHS = {"wider": (2, 5), "same": (4, 4), "narrower": (5, 2)}


@pytest.fixture(params=WIDTHS.values(), ids=WIDTHS.keys())
def widths(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param


def walks_of(graph: Graph) -> list[np.ndarray]:
    """Dense random walks along the edges and against them."""
    adjacency = graph.dense().double().numpy()
    return [matrix / (matrix.sum(1, keepdims=True) + 1e-6) for matrix in (adjacency, adjacency.T)]


def polynomial(matrix: np.ndarray, degree: int) -> np.ndarray:
    """T_degree of a matrix, from its coefficients in powers of the matrix."""
    powers = chebyshev.cheb2poly([0] * degree + [1])
    return sum(factor * np.linalg.matrix_power(matrix, power) for power, factor in enumerate(powers))


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_it_is_the_sum_of_dense_polynomials(widths, steps: int, random_graph) -> None:
    torch.manual_seed(0)
    graph, layer = random_graph(NODES), DiffusionConv(*widths, steps=steps, starts=(0.5,))
    x = torch.randn(3, 7, NODES, widths[0])
    matrices = [np.eye(NODES), *(polynomial(walk, k) for walk in walks_of(graph) for k in range(1, steps + 1))]
    weights = layer.weight.detach().double().numpy()
    expected = sum(np.einsum("mn,btni,io->btmo", m, x.double(), w) for m, w in zip(matrices, weights, strict=True))
    found = layer(x, graph)
    np.testing.assert_allclose(found.detach().numpy(), expected + 0.5, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.bind(graph)(x), found)
    torch.testing.assert_close(layer(x[:, 2], graph), found[:, 2])


def test_gradients_are_those_of_dense_products(widths, random_graph) -> None:
    torch.manual_seed(0)
    graph, layer = random_graph(NODES), DiffusionConv(*widths, steps=2)
    x = torch.randn(3, NODES, widths[0], requires_grad=True)
    matrices = [np.eye(NODES), *(polynomial(walk, k) for walk in walks_of(graph) for k in (1, 2))]
    stacked = torch.tensor(np.stack(matrices), dtype=torch.float32)
    dense = torch.einsum("kmn,bni,kio->bmo", stacked, x, layer.weight)
    weight = torch.randn_like(dense)
    mine, theirs = (torch.autograd.grad((out * weight).sum(), (x, layer.weight)) for out in (layer(x, graph), dense))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_second_walk_begins_at_the_input(random_graph) -> None:
    """With the weights of the walk along the edges at 0, its terms leave no trace."""
    torch.manual_seed(0)
    graph, layer = random_graph(NODES), DiffusionConv(3, 4, steps=2)
    with torch.no_grad():
        layer.weight[[0, 1, 2, 4]] = 0
    x = torch.randn(NODES, 3)
    torch.testing.assert_close(layer(x, graph), graph.reversed.propagate(x) @ layer.weight[3])


def test_both_directions_count_and_a_node_without_edges_keeps_its_own_term(widths) -> None:
    torch.manual_seed(0)
    graph, layer = Graph.from_edges([0], [1], [1.0], num_nodes=3), DiffusionConv(*widths)
    x = torch.randn(3, widths[0])
    for node, reached in ((0, [True, True, False]), (1, [True, True, False]), (2, [False, False, True])):
        changed = x.clone()
        changed[node] += 1
        assert ((layer(changed, graph) - layer(x, graph)).abs() > 1e-4).any(-1).tolist() == reached
    own, first, second, third, fourth = layer.weight
    torch.testing.assert_close(layer(x, graph)[2], x[2] @ (own - second - fourth))
    assert first.any()
    assert third.any()


def test_the_sum_of_terms_is_what_the_terms_sum_to() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    series = [torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def move(x: Tensor) -> Tensor:
        return matrix @ x

    for count in (1, 2, 3, 4):
        terms = series[:count]
        expected = sum(chebyshev_terms(z, move, k)[k] for k, z in enumerate(terms, start=1))
        torch.testing.assert_close(chebyshev_sum(terms, move), expected)
    assert torch.autograd.gradcheck(lambda *terms: chebyshev_sum(terms, move), tuple(series))
    assert torch.autograd.gradcheck(lambda x: torch.stack(chebyshev_terms(x, move, 3)), (series[0],))


def test_parts_of_the_bias_start_where_they_are_told() -> None:
    layer = DiffusionConv(2, 6, starts=(1.0, 1.0, 0.0))
    assert layer.bias.tolist() == [1, 1, 1, 1, 0, 0]
    with torch.no_grad():
        layer.bias.fill_(7)
    layer.reset_parameters()
    assert layer.bias.tolist() == [1, 1, 1, 1, 0, 0]
    assert DiffusionConv(2, 6).bias is None
