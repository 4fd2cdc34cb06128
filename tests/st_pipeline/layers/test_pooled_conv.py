"""Pooled graph convolutions against dense sums, on one graph and on one a window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.pooled_conv import PooledConv, move_over, pooled_gru
from st_pipeline.models.base import count_parameters

BATCH, STEPS, NODES, WIDTH, QUERY = 3, 4, 5, 2, 6
QUERIES = {"node": (NODES, QUERY), "window": (BATCH, 1, QUERY), "both": (BATCH, NODES, QUERY)}
GRAPHS = {"one": (NODES, NODES), "one a window": (BATCH, NODES, NODES)}


@pytest.fixture(params=QUERIES.values(), ids=QUERIES.keys())
def query(request: pytest.FixtureRequest) -> Tensor:
    return torch.randn(request.param, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(params=GRAPHS.values(), ids=GRAPHS.keys())
def adjacency(request: pytest.FixtureRequest) -> Tensor:
    return torch.rand(request.param, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(-1)


def x(*, width: int = WIDTH) -> Tensor:
    return torch.randn(BATCH, STEPS, NODES, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_it_is_the_sum_of_chebyshevs_polynomials_of_the_graph(query, adjacency, order: int) -> None:
    torch.manual_seed(0)
    layer = PooledConv(WIDTH, 3, query=QUERY, order=order, bias=True).double()
    matrix = adjacency.expand(BATCH, NODES, NODES)
    polynomials = [torch.eye(NODES, dtype=torch.float64).expand_as(matrix), matrix]
    while len(polynomials) < order:
        polynomials.append(2 * matrix @ polynomials[-1] - polynomials[-2])
    rows = query.expand(BATCH, NODES, QUERY)
    weight = torch.einsum("bnd,dio->bnio", rows, layer.linear.weight).unflatten(2, (order, WIDTH))
    moved = torch.einsum("kbnm,btmi->bktni", torch.stack(polynomials[:order]), x())
    expected = torch.einsum("bktni,bnkio->btno", moved, weight) + (rows @ layer.linear.bias)[:, None]
    torch.testing.assert_close(layer(x(), adjacency, query), expected)
    torch.testing.assert_close(layer(x()[:, 1], adjacency, query), expected[:, 1])


def test_a_series_in_the_unit_is_its_steps_one_by_one(query, adjacency) -> None:
    torch.manual_seed(0)
    unit = pooled_gru(WIDTH, 4, query=QUERY).double()
    bound, state = unit.bind(adjacency, query), torch.zeros(BATCH, NODES, 4, dtype=torch.float64)
    expected = unit(x(), adjacency, query)
    for step in range(STEPS):
        state = bound(x()[:, step], state)
        torch.testing.assert_close(state, expected[:, step])


def test_the_unit_has_as_many_parameters_as_one_with_a_layer_for_both_inputs_and_state() -> None:
    """d K (F + D) 3 D weights and d 3 D biases: HimNet's formula."""
    assert count_parameters(pooled_gru(3, 64, query=16)) == 16 * (2 * (3 + 64) * 3 * 64 + 3 * 64)
    assert count_parameters(pooled_gru(3, 64, query=10, order=3)) == 10 * (3 * (3 + 64) * 3 * 64 + 3 * 64)


def test_without_a_pool_the_query_does_not_matter(query, adjacency) -> None:
    torch.manual_seed(0)
    layer = PooledConv(WIDTH, 3, query=None).double()
    assert torch.equal(layer(x(), adjacency, query), layer(x(), adjacency, 2 * query))
    moved = torch.cat([x(), torch.einsum("bnm,btmi->btni", adjacency.expand(BATCH, -1, -1), x())], dim=-1)
    torch.testing.assert_close(layer(x(), adjacency, query), moved @ layer.linear.weight.t())


def test_a_row_gathers_from_its_columns(adjacency) -> None:
    expected = torch.stack([adjacency.expand(BATCH, -1, -1) @ step for step in x().unbind(1)], dim=1)
    torch.testing.assert_close(move_over(adjacency, x()), expected)
    torch.testing.assert_close(move_over(adjacency, x()[:, 0]), expected[:, 0])
