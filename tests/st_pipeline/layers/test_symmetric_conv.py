"""The paper's spatial layer is its formula, whichever side travels over the edges."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.layers.symmetric_conv import SymmetricConv
from st_pipeline.types import Graph


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 8), (8, 1), (5, 5)])
@pytest.mark.parametrize("leading", [(2,), (2, 4)])
def test_the_layer_is_the_formula(random_graph, inputs: int, outputs: int, leading: tuple[int, ...]) -> None:
    graph, layer = random_graph(7), SymmetricConv(inputs, outputs)
    x = torch.randn(*leading, 7, inputs)
    scale = torch.diag((graph.dense().sum(1) + 1e-6) ** -0.5)
    expected = scale @ graph.dense() @ scale @ x @ layer.linear.weight.T + layer.linear.bias
    torch.testing.assert_close(layer(x, graph), expected, rtol=1e-5, atol=1e-5)
    assert sum(parameter.numel() for parameter in layer.parameters()) == inputs * outputs + outputs


def test_a_node_without_edges_gives_the_bias_alone() -> None:
    graph, layer = Graph.from_edges([], [], [], num_nodes=3), SymmetricConv(2, 4)
    assert torch.equal(layer(torch.randn(3, 2), graph), layer.linear.bias.expand(3, 4))
