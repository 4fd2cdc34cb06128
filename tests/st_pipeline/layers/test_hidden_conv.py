"""The convolution along the hidden axis is `Conv1d`, in values, gradients and initialisation."""

from __future__ import annotations

import torch
from torch import nn

from st_pipeline.layers.hidden_conv import HiddenConv


def test_values_and_gradients_are_those_of_conv1d() -> None:
    layer, plain = HiddenConv().double(), nn.Conv1d(1, 1, 3, padding=1).double()
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
        plain.bias.copy_(layer.bias)
    x = torch.randn(2, 5, 9, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), plain(x.reshape(10, 1, 9)).reshape(2, 5, 9)
    torch.testing.assert_close(out, expected)
    inputs = torch.autograd.grad(out.square().sum(), [x, layer.weight, layer.bias])
    torch.testing.assert_close(inputs, torch.autograd.grad(expected.square().sum(), [x, plain.weight, plain.bias]))


def test_it_starts_as_conv1d_does_and_can_be_drawn_anew() -> None:
    torch.manual_seed(1)
    layer = HiddenConv()
    torch.manual_seed(1)
    plain = nn.Conv1d(1, 1, 3, padding=1)
    assert torch.equal(layer.weight, plain.weight)
    assert torch.equal(layer.bias, plain.bias)
    before = layer.weight.detach().clone()
    layer.reset_parameters()
    assert not (layer.weight == before).any()
