"""The recurrent unit against its equations, step by step with dense matrices."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers.diffusion_conv import DiffusionConv
from st_pipeline.layers.graph_gru import GraphGRU, stack_steps

BATCH, STEPS, NODES, WIDTH, HIDDEN = 3, 5, 6, 2, 4


@pytest.fixture
def unit() -> GraphGRU:
    torch.manual_seed(0)
    layer = partial(DiffusionConv, steps=1)
    return GraphGRU(layer(WIDTH, 3 * HIDDEN, starts=(1.0, 0.5, -0.5)), layer(HIDDEN, 2 * HIDDEN), layer(HIDDEN, HIDDEN))


@pytest.fixture
def graph(random_graph):
    return random_graph(NODES)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(BATCH, STEPS, NODES, WIDTH)


def joint(unit: GraphGRU, gate: int) -> Tensor:
    """Weights (terms, WIDTH + HIDDEN, HIDDEN) of reset, update or candidate, as one convolution of [x, h] has them."""
    columns = slice(gate * HIDDEN, (gate + 1) * HIDDEN)
    own = unit.candidate.weight if gate == 2 else unit.gates.weight[..., columns]
    return torch.cat([unit.inputs.weight[..., columns], own], dim=1)


def written_out(unit: GraphGRU, x: Tensor, graph, state: Tensor) -> Tensor:
    """All states by the published equations, with one dense convolution of [x, h] for each gate."""
    adjacency = graph.dense()
    walks = [matrix / (matrix.sum(1, keepdim=True) + 1e-6) for matrix in (adjacency, adjacency.T)]

    def convolve(features: Tensor, gate: int) -> Tensor:
        terms = [features, walks[0] @ features, walks[1] @ features]
        bias = unit.inputs.bias[gate * HIDDEN : (gate + 1) * HIDDEN]
        return sum(term @ weight for term, weight in zip(terms, joint(unit, gate), strict=True)) + bias

    states = []
    for step in range(x.shape[1]):
        both = torch.cat([x[:, step], state], dim=-1)
        reset, update = torch.sigmoid(convolve(both, 0)), torch.sigmoid(convolve(both, 1))
        candidate = torch.tanh(convolve(torch.cat([x[:, step], reset * state], dim=-1), 2))
        state = update * state + (1 - update) * candidate
        states.append(state)
    return torch.stack(states, dim=1)


def test_a_series_of_steps_follows_the_equations_in_value_and_gradients(unit, graph, x) -> None:
    found, expected = unit(x, graph), written_out(unit, x, graph, torch.zeros(BATCH, NODES, HIDDEN))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(found)
    mine, theirs = (torch.autograd.grad((out * weight).sum(), list(unit.parameters())) for out in (found, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_it_goes_on_from_a_state(unit, graph, x) -> None:
    state = torch.randn(BATCH, NODES, HIDDEN)
    expected = written_out(unit, x, graph, state)
    torch.testing.assert_close(unit(x, graph, state=state), expected, rtol=1e-4, atol=1e-5)
    halves = unit(x[:, :2], graph, state=state)
    torch.testing.assert_close(unit(x[:, 2:], graph, state=halves[:, -1]), expected[:, 2:], rtol=1e-4, atol=1e-5)


def test_steps_one_by_one_are_the_series(unit, graph, x) -> None:
    bound, state = unit.bind(graph), torch.zeros(BATCH, NODES, HIDDEN)
    expected = unit(x, graph)
    for step in range(STEPS):
        state = bound(x[:, step], state)
        torch.testing.assert_close(state, expected[:, step])


def test_an_open_update_gate_keeps_the_state_and_a_closed_reset_gate_forgets_it(unit, graph, x) -> None:
    state = torch.randn(BATCH, NODES, HIDDEN)
    reset, update, _ = unit.inputs.bias.detach().chunk(3)
    update.fill_(100)
    assert torch.equal(unit(x, graph, state=state)[:, -1], state)
    update.fill_(-100)
    reset.fill_(-100)
    torch.testing.assert_close(unit(x[:, :1], graph, state=state), unit(x[:, :1], graph, state=-state))


class Plain(nn.Linear):
    """A layer without a graph."""

    def bind(self) -> nn.Linear:
        return self


def test_any_layer_will_do(x) -> None:
    torch.manual_seed(0)
    unit = GraphGRU(
        Plain(WIDTH, 3 * HIDDEN), Plain(HIDDEN, 2 * HIDDEN, bias=False), Plain(HIDDEN, HIDDEN, bias=False)
    ).double()
    inputs = x[:2, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(unit, (inputs,))
    alone = [unit(inputs[:, :, node : node + 1]) for node in range(NODES)]
    torch.testing.assert_close(torch.cat(alone, dim=2), unit(inputs))


def test_steps_are_stacked_with_nodes_first_in_memory() -> None:
    steps = [torch.randn(BATCH, NODES, HIDDEN) for _ in range(STEPS)]
    stacked = stack_steps(steps)
    assert torch.equal(stacked, torch.stack(steps, dim=1))
    assert stacked.permute(2, 0, 1, 3).is_contiguous()
