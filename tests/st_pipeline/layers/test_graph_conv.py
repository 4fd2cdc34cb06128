"""The spatial layer is the published formula, whichever side travels over the edges."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.layers.graph_conv import GraphConv


@pytest.mark.parametrize(("inputs", "outputs"), [(12, 64), (64, 12), (5, 5)])
def test_the_layer_is_the_published_formula(random_graph, inputs: int, outputs: int) -> None:
    graph, layer = random_graph(7), GraphConv(inputs, outputs)
    x = torch.randn(2, 7, inputs)
    dense = graph.dense()
    operator = dense / (dense.sum(1, keepdim=True) + 1e-6)
    neighbour, own = layer.neighbour, layer.own
    expected = operator @ x @ neighbour.weight.T + neighbour.bias + x @ own.weight.T
    torch.testing.assert_close(layer(x, graph), expected, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in layer.parameters()) == 2 * inputs * outputs + outputs
