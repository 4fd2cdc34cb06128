"""Repeated steps along graphs are powers of dense matrices."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from st_pipeline.layers.adaptive_graph import gather
from st_pipeline.layers.hop_conv import HopConv

NODES = 6


@pytest.mark.parametrize("graphs", [1, 3])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_keeping_the_layer_weighs_powers_of_each_graph(random_graph, graphs: int, order: int) -> None:
    torch.manual_seed(0)
    layer, x = HopConv(4, 5, graphs=graphs, order=order), torch.randn(2, 3, NODES, 4)
    given = [random_graph(NODES, seed=seed) for seed in range(graphs)]
    weights = layer.linear.weight.split(4, dim=1)
    expected = x @ weights[0].T + layer.linear.bias
    for place, graph in enumerate(given):
        walk = graph.dense() / (graph.dense().sum(1, keepdim=True) + 1e-6)
        for power in range(1, order + 1):
            weight = weights[1 + place * order + power - 1]
            expected = expected + torch.linalg.matrix_power(walk, power) @ x @ weight.T
    torch.testing.assert_close(layer(x, *(graph.propagate for graph in given)), expected, rtol=1e-4, atol=1e-5)


def test_what_is_kept_enters_every_step() -> None:
    torch.manual_seed(0)
    layer, x, adjacency = HopConv(4, 5, order=2, keep=0.3), torch.randn(2, NODES, 4), torch.rand(NODES, NODES)
    one = 0.3 * x + 0.7 * adjacency @ x
    two = 0.3 * x + 0.7 * adjacency @ one
    expected = torch.cat([x, one, two], dim=-1) @ layer.linear.weight.T + layer.linear.bias
    torch.testing.assert_close(layer(x, partial(gather, adjacency)), expected, rtol=1e-4, atol=1e-5)


def test_a_node_sees_as_many_steps_away_as_the_order_says() -> None:
    line = torch.diag(torch.ones(NODES - 1), -1)  # each gathers from the one before
    layer, x = HopConv(2, 2, order=3), torch.randn(NODES, 2)
    changed = x.clone()
    changed[0] += 1
    differs = (layer(x, partial(gather, line)) - layer(changed, partial(gather, line))).abs().amax(-1) > 1e-6
    assert differs.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("keep", [0.0, 0.05])
def test_gradients_are_those_of_finite_differences(keep: float) -> None:
    torch.manual_seed(0)
    layer = HopConv(2, 3, graphs=2, keep=keep).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    matrices = [torch.rand(4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda x, one, two, *_: layer(x, partial(gather, one), partial(gather, two)),
        (x, *matrices, layer.linear.weight),
    )
