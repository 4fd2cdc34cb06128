"""Smoothing is the power of a dense matrix written down entry by entry, and its gates belong to sensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.node_table import restricted
from st_pipeline.layers.residual_smoothing import ResidualSmoothing
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, NodeSet

NODES = 6
KERNELS = [("adaptive",), ("adjacency",), ("reversed", "adaptive"), ("adaptive", "adjacency", "reversed")]


def dense_graph(smoothing: ResidualSmoothing, kernel: str, graph: Graph) -> list[list[float]]:
    """One kernel's A, rows of sum 1."""
    if kernel == "adaptive":
        rows = smoothing.nodes.table().tolist()
        found = []
        for place, one in enumerate(rows):
            scores = [math.exp(max(0.0, sum(a * b for a, b in zip(one, other, strict=True)))) for other in rows]
            scores[place] = 0.0
            found.append([score / sum(scores) for score in scores])
        return found
    raw = graph.dense().t() if kernel == "reversed" else graph.dense()
    return (raw / (raw.sum(1, keepdim=True) + 1e-6)).tolist()


def dense_kernel(smoothing: ResidualSmoothing, graph: Graph, gate_by: str) -> Tensor:
    """K entry by entry: beta_g (m [i = j] + sum_k alpha_kg A_kij) with g the column or the row."""
    graphs = [dense_graph(smoothing, kernel, graph) for kernel in smoothing.kernels]
    raw_alpha, raw_beta = (table.table().detach() + 0.5 for table in (smoothing.alpha, smoothing.beta))
    out = torch.zeros(NODES, NODES)
    for row in range(NODES):
        for column in range(NODES):
            gate = column if gate_by == "source" else row
            total = float(len(graphs) * (row == column))
            for place, adjacency in enumerate(graphs):
                total += math.tanh(float(raw_alpha[gate, place])) * adjacency[row][column]
            out[row, column] = total / (1 + math.exp(-float(raw_beta[gate, 0])))
    return out


@pytest.mark.parametrize("gate_by", ["source", "target"])
@pytest.mark.parametrize("kernels", KERNELS, ids="-".join)
@pytest.mark.parametrize(("layers", "leading"), [(1, (3,)), (2, (3,)), (3, (2, 4))])
def test_smoothing_is_the_power_of_its_dense_kernel(
    random_graph, kernels: Any, gate_by: Any, layers: int, leading: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    graph = random_graph(NODES)
    smoothing = ResidualSmoothing(NODES, layers=layers, kernels=kernels, rank=4, gate_by=gate_by)
    x = torch.randn(*leading, NODES, 5)
    power = torch.linalg.matrix_power(dense_kernel(smoothing, graph, gate_by), layers)
    torch.testing.assert_close(smoothing(x, graph), torch.einsum("mn,...nf->...mf", power, x), rtol=1e-4, atol=1e-5)
    assert count_parameters(smoothing) == NODES * (len(kernels) + 1 + 4 * ("adaptive" in kernels))


@pytest.mark.parametrize("gate_by", ["source", "target"])
def test_gradients_are_those_of_finite_differences(random_graph, gate_by: Any) -> None:
    torch.manual_seed(0)
    smoothing = ResidualSmoothing(4, layers=2, rank=3, gate_by=gate_by).double()
    tables = [smoothing.alpha.appended, smoothing.beta.appended, smoothing.nodes.appended]
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *of: smoothing(of[0], random_graph(4)), (x, *tables))


def test_the_gates_start_as_published_and_are_told_by_kernel() -> None:
    torch.manual_seed(0)
    smoothing = ResidualSmoothing(4000, kernels=("adaptive", "adjacency"), rank=1)
    alpha, beta = smoothing.gates()
    assert list(alpha) == ["adaptive", "adjacency"]
    for drawn in (*(torch.atanh(weights) for weights in alpha.values()), torch.logit(beta)):
        assert drawn.shape == (4000,)
        assert -1e-5 <= drawn.min() < 0.01
        assert 0.99 < drawn.max() <= 1 + 1e-5
        assert drawn.mean().item() == pytest.approx(0.5, abs=0.02)


def test_neighbours_may_draw_apart(random_graph) -> None:
    smoothing = ResidualSmoothing(NODES, layers=1, rank=2)
    with torch.no_grad():
        smoothing.alpha.appended.fill_(-9.0)
        smoothing.beta.appended.fill_(9.0)
    x = torch.zeros(1, NODES, 1)
    x[0, 0] = 1.0
    found = smoothing(x, random_graph(NODES))
    assert found[0, 0].item() == pytest.approx(1, abs=1e-3)
    assert (found[0, 1:] < 0).all()


@pytest.mark.parametrize("kernels", KERNELS, ids="-".join)
def test_a_single_sensor_is_smoothed_by_its_gate_alone(kernels: Any) -> None:
    smoothing = ResidualSmoothing(1, layers=2, kernels=kernels)
    x, graph = torch.randn(3, 1, 5), Graph.from_edges([], [], [], num_nodes=1)
    found = smoothing(x, graph)
    gate = len(kernels) * torch.sigmoid(smoothing.beta.table() + 0.5)
    torch.testing.assert_close(found, gate**2 * x)
    found.sum().backward()
    assert all(part.grad.isfinite().all() for part in smoothing.parameters() if part.numel())


def test_gates_and_neighbours_follow_the_sensors(random_graph) -> None:
    smoothing = ResidualSmoothing(3, kernels=("adaptive",), rank=2)
    smoothing.apply(lambda part: part.expand(NodeSet.of("abc")) if hasattr(part, "expand") else None)
    before = {name: value.clone() for name, value in smoothing.state_dict().items()}
    for names in ("adc", "abce"):
        smoothing.apply(lambda part, names=names: part.expand(NodeSet.of(names)) if hasattr(part, "expand") else None)
        for name in ("alpha", "beta", "nodes"):
            rows = dict(zip(names, smoothing.state_dict()[f"{name}.rows"], strict=True))
            old = dict(zip("abc", before[f"{name}.rows"], strict=True))
            assert all(torch.equal(rows[known], old[known]) for known in set(names) & set("abc")), name


def test_a_part_of_the_network_is_smoothed_among_its_own(random_graph) -> None:
    torch.manual_seed(0)
    smoothing, rows = ResidualSmoothing(NODES, rank=3), torch.tensor([4, 1, 2])
    x = torch.randn(2, NODES, 5)
    other = ResidualSmoothing(3, rank=3)
    state = {name: value[rows] if name.endswith("rows") else value for name, value in smoothing.state_dict().items()}
    other.load_state_dict(state)
    graph = random_graph(NODES).subgraph(rows)
    with restricted(smoothing, rows):
        torch.testing.assert_close(smoothing(x[:, rows], graph), other(x[:, rows], graph))
