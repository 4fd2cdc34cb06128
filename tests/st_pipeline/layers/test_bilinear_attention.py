"""ASTGCN's attentions against their sums written out, number by number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.bilinear_attention import SensorAttention, StepAttention
from st_pipeline.models.base import count_parameters

NODES, STEPS, CHANNELS, RANK = 5, 4, 3, 2


def steps() -> StepAttention:
    torch.manual_seed(0)
    return StepAttention(NODES, channels=CHANNELS, steps=STEPS)


def sensors() -> SensorAttention:
    torch.manual_seed(0)
    return SensorAttention(NODES, channels=CHANNELS, steps=STEPS, rank=RANK)


def weighted(gatherers: Tensor, gathered: Tensor, bias: Tensor, mix: Tensor) -> Tensor:
    """(L, L) of rows of numbers (L, M): each sum by itself."""
    size = len(gatherers)
    open_gates = torch.empty(size, size)
    for row in range(size):
        for column in range(size):
            open_gates[row, column] = torch.sigmoid(sum(gatherers[row] * gathered[column]) + bias[row, column])
    scores = torch.tensor([[float(sum(mix[of] * row)) for of in range(size)] for row in open_gates])
    return torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)


@torch.no_grad()
def test_the_attention_over_steps_is_its_formula() -> None:
    layer, x = steps(), torch.randn(2, NODES, STEPS, CHANNELS)
    first, second, third = layer.reduce()[:, 0], layer.spread(), layer.gatherer.weight[0]
    for window, found in zip(x, layer(x), strict=True):
        gathered = torch.zeros(STEPS, NODES)
        for channel in range(CHANNELS):
            summed = sum(first[node] * window[node, :, channel] for node in range(NODES))
            gathered += summed[:, None] * second[:, channel] / NODES  # by the square root for each of two sums
        gatherers = torch.stack([window[:, step] @ third for step in range(STEPS)])
        expected = weighted(gatherers, gathered, layer.bias, layer.mix.weight)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_attention_over_sensors_is_its_formula() -> None:
    layer, x = sensors(), torch.randn(2, NODES, STEPS, CHANNELS)
    first, second, third = layer.reduce.weight[0], layer.spread.weight, layer.gatherer.weight[0]
    for window, found in zip(x, layer(x), strict=True):
        gathered = torch.stack([second @ (first @ node) for node in window])
        gatherers = torch.stack([node @ third for node in window])
        expected = weighted(gatherers, gathered, layer.bias(), layer.mix())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_gradients_are_those_of_finite_differences() -> None:
    x = torch.randn(1, NODES, STEPS, CHANNELS, dtype=torch.float64, requires_grad=True)
    for layer in (steps().double(), sensors().double()):
        assert torch.autograd.gradcheck(lambda given, *_, layer=layer: layer(given), (x, *layer.parameters()))


def test_the_rows_sum_to_one_however_large_the_readings() -> None:
    x = 1e4 * torch.randn(2, NODES, STEPS, CHANNELS)
    for layer, size in ((steps(), STEPS), (sensors(), NODES)):
        torch.testing.assert_close(layer(x).sum(-1), torch.ones(2, size))


@torch.no_grad()
def test_what_the_attention_over_steps_adds_up_does_not_grow_with_the_network() -> None:
    torch.manual_seed(0)
    spread = {}
    for nodes in (20, 2000):
        x = torch.randn(20, 1, STEPS, 1).expand(-1, nodes, -1, -1)  # all sensors alike: the largest sums
        logits = []
        for _ in range(100):
            layer = StepAttention(nodes, channels=1, steps=STEPS)
            layer.bias.zero_()
            layer.mix.weight.copy_(torch.eye(STEPS))
            logits.append(torch.log(layer(x)))
        spread[nodes] = float(torch.stack(logits).std())
    assert spread[2000] == pytest.approx(spread[20], rel=0.4)


def test_both_have_the_published_numbers_of_parameters_but_for_the_square_tables() -> None:
    assert count_parameters(steps()) == NODES + CHANNELS * NODES + CHANNELS + 2 * STEPS**2
    assert count_parameters(sensors()) == STEPS + CHANNELS * STEPS + CHANNELS + 2 * 2 * NODES * RANK


@torch.no_grad()
def test_a_reset_draws_everything_anew() -> None:
    for layer in (steps(), sensors()):
        for parameter in layer.parameters():
            parameter.fill_(7.0)
        for part in layer.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
        assert all((parameter.abs() < 2).all() for parameter in layer.parameters())
