"""Several kernels in one product are torch's convolutions side by side."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d

from st_pipeline.layers.inception_conv import KERNELS, GatedInception
from st_pipeline.models.base import count_parameters

NODES = 3


def plain(layer: GatedInception, x: Tensor) -> Tensor:
    """One kernel and one node at a time, cut to the steps that the longest kernel leaves."""
    steps = x.shape[1] - (KERNELS[-1] - 1) * layer.dilation
    halves = []
    for convolutions in (layer.filters, layer.gates):
        parts = []
        for part in convolutions:
            weight, bias = part.conv.weight.squeeze(-1), part.conv.bias
            each = [
                conv1d(x[:, :, node].transpose(1, 2), weight, bias, dilation=layer.dilation) for node in range(NODES)
            ]
            parts.append(torch.stack([found[..., -steps:] for found in each]))  # (N, B, outputs / 4, steps)
        halves.append(torch.cat(parts, dim=2))
    return (torch.tanh(halves[0]) * torch.sigmoid(halves[1])).permute(1, 3, 0, 2)


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_layer_is_its_kernels_side_by_side_in_values_and_gradients(dilation: int) -> None:
    torch.manual_seed(0)
    layer, x = GatedInception(5, 8, dilation=dilation), torch.randn(2, 15, NODES, 5, requires_grad=True)
    found, expected = layer(x), plain(layer, x)
    assert found.shape == (2, 15 - 6 * dilation, NODES, 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    to = [x, *layer.parameters()]
    mine, theirs = (torch.autograd.grad(out.square().sum(), to) for out in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_kernel_reaches_as_far_back_as_it_is_long() -> None:
    torch.manual_seed(0)
    layer, x = GatedInception(2, 8), torch.randn(1, 7, NODES, 2)
    for step in range(7):
        changed = x.clone()
        changed[:, step] += 1
        differs = (layer(x) - layer(changed)).abs().amax((0, 1, 2)) > 1e-6
        assert differs.tolist() == [kernel >= 7 - step for kernel in KERNELS for _ in range(2)]


def test_its_size_is_that_of_the_kernels() -> None:
    assert count_parameters(GatedInception(32, 32)) == 2 * (32 * 8 * sum(KERNELS) + 32)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = GatedInception(2, 4).double()
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))
