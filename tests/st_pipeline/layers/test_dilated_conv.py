"""Dilated convolutions are sums over taps, see only the past, and reach as far back as they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers.dilated_conv import DilatedConv, GatedConv, at_least, doubling, receptive_field
from st_pipeline.models.base import count_parameters


def by_taps(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """out[t] = b + sum_k W[..., k] x[t + k d], for one step of one node of one window at a time."""
    taps = weight.shape[-1]
    left = x.shape[1] - (taps - 1) * dilation
    out = [
        [
            [
                bias + sum(weight[..., tap] @ series[step + tap * dilation] for tap in range(taps))
                for step in range(left)
            ]
            for series in window.unbind(1)
        ]
        for window in x
    ]
    return torch.stack([torch.stack([torch.stack(steps) for steps in nodes], 1) for nodes in out])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (2, 4), (3, 2), (7, 1)])
def test_a_convolution_is_a_sum_over_its_taps_in_values_and_gradients(kernel: int, dilation: int) -> None:
    layer, x = DilatedConv(3, 4, kernel=kernel, dilation=dilation), torch.randn(2, 8, 5, 3, requires_grad=True)
    weight, bias = layer.conv.weight, layer.conv.bias
    found, expected = layer(x), by_taps(x, weight[..., 0], bias, dilation)
    assert found.shape == (2, 8 - (kernel - 1) * dilation, 5, 4)
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad(out.square().sum(), [x, weight, bias]) for out in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_gate_is_tanh_times_sigmoid_of_two_convolutions() -> None:
    layer, x = GatedConv(3, 4, kernel=2, dilation=3), torch.randn(2, 8, 5, 3)
    halves = []
    for half in range(2):
        own = nn.Conv1d(3, 4, 2, dilation=3)
        rows = slice(4 * half, 4 * half + 4)
        own.load_state_dict({"weight": layer.both.conv.weight[rows, ..., 0], "bias": layer.both.conv.bias[rows]})
        halves.append(torch.stack([own(series.transpose(1, 2)).transpose(1, 2) for series in x.unbind(2)], 2))
    torch.testing.assert_close(layer(x), halves[0].tanh() * halves[1].sigmoid())
    assert count_parameters(layer) == 2 * count_parameters(nn.Conv1d(3, 4, 2))


def test_gradients_are_those_of_differences() -> None:
    layer, x = GatedConv(2, 2, kernel=2, dilation=2).double(), torch.randn(2, 4, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize(("kernel", "blocks", "layers", "expected"), [(2, 4, 2, 13), (3, 1, 3, 15), (2, 1, 1, 2)])
def test_the_receptive_field_is_what_the_last_step_is_made_of(
    kernel: int, blocks: int, layers: int, expected: int
) -> None:
    dilations = doubling(blocks, layers)
    assert receptive_field(kernel, dilations) == expected
    stack = nn.Sequential(*(DilatedConv(1, 1, kernel=kernel, dilation=dilation) for dilation in dilations))
    x = torch.randn(1, expected + 3, 2, 1, requires_grad=True)
    out = stack(x)
    assert out.shape[1] == 4
    out[0, -1, 1].sum().backward()
    assert not x.grad[:, :, 0].any()
    assert x.grad[0, :, 1, 0].nonzero().flatten().tolist() == list(range(3, expected + 3))


def test_dilations_double_within_a_block() -> None:
    assert doubling(2, 3) == [1, 2, 4, 1, 2, 4]


def test_zeros_are_put_before_a_short_window_and_none_before_a_long_one() -> None:
    x = torch.randn(2, 3, 4, 5)
    longer = at_least(x, 5)
    assert longer.shape == (2, 5, 4, 5)
    assert not longer[:, :2].any()
    assert torch.equal(longer[:, 2:], x)
    assert torch.equal(at_least(x, 3), x)
    assert torch.equal(at_least(x, 2), x)
