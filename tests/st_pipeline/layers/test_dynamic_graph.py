"""A window's graphs: the formulas written out, and what sensors without neighbours do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.dynamic_graph import DynamicGraph
from st_pipeline.types import Graph

B, N, T, CALENDAR, ROWS, HIDDEN = 2, 5, 4, 3, 2, 6


def inputs() -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return torch.randn(B, N, T), torch.randn(B, CALENDAR), (torch.randn(N, ROWS), torch.randn(N, ROWS))


def make() -> DynamicGraph:
    torch.manual_seed(0)
    layer = DynamicGraph(T, CALENDAR + ROWS, HIDDEN, dropout=0.2)
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 1.5)
    return layer.eval()


@torch.no_grad()
def test_both_graphs_are_the_formulas(random_graph) -> None:
    layer, graph, (series, when, rows) = make(), random_graph(N), inputs()
    found = layer(series, when, graph, rows)
    dense, norm = graph.dense(), layer.norm
    for matrix, weights, row in zip(found, (dense, dense.T), rows, strict=True):
        for b in range(B):
            known = []
            for n in range(N):
                hidden = (layer.inward.weight @ series[b, n] + layer.inward.bias).clamp(min=0)
                hidden = (hidden - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
                known.append(torch.cat([layer.outward.weight @ hidden + layer.outward.bias, when[b], row[n]]))
            for n in range(N):
                query = layer.query.weight @ known[n]
                scores = torch.stack([query @ (layer.key.weight @ other) for other in known]) / HIDDEN**0.5
                shares = (weights[n] / (weights[n].sum() + 1e-6) + 1e-7) * scores.exp() / scores.exp().sum()
                torch.testing.assert_close(matrix[b, n], shares / shares.sum(), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_rows_are_shares_of_the_neighbours_and_of_all_where_there_are_none() -> None:
    graph = Graph.from_edges([0, 0, 1], [1, 2, 2], [0.5, 0.1, 0.9], num_nodes=N)
    series, when, rows = inputs()
    along, against = make()(series, when, graph, rows)
    for matrix in (along, against):
        torch.testing.assert_close(matrix.sum(-1), torch.ones(B, N))
    assert (along[:, 0, 1:3].sum(-1) > 0.99).all()
    assert (along[:, 1, 2] > 0.99).all()
    assert (against[:, 2, :2].sum(-1) > 0.99).all()
    assert (along[:, 3:] > 1e-3).all()


@torch.no_grad()
def test_it_changes_with_what_the_sensors_do_and_when(random_graph) -> None:
    layer, graph, (series, when, rows) = make(), random_graph(N), inputs()
    before = layer(series, when, graph, rows)[0]
    for after in (layer(series + torch.randn(N, T), when, graph, rows)[0], layer(series, when + 1, graph, rows)[0]):
        assert not torch.allclose(after, before, atol=1e-4)
    other = layer(series, when, graph, (rows[0], rows[1] + 1))
    assert torch.equal(other[0], before)


@pytest.mark.parametrize("edges", [0, 3])
def test_gradients_are_finite_with_and_without_edges(edges: int) -> None:
    graph = Graph.from_edges(range(edges), range(1, edges + 1), [1.0] * edges, num_nodes=N)
    layer, (series, when, rows) = make().train(), inputs()
    (torch.stack(layer(series, when, graph, rows)) * torch.randn(2, B, N, N)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert layer.query.weight.grad.any()
