"""Normalisation of features is torch's own whatever the axes, and a single row is no error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from st_pipeline.layers.row_norm import NormedLinear, RowNorm, two_layers


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("axes", [(7,), (2, 5), (2, 3, 5)])
def test_it_is_batch_normalisation_over_all_axes_but_the_last(axes: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    own, theirs = RowNorm(4).train(training), nn.BatchNorm1d(4).train(training)
    x = (3 * torch.randn(*axes, 4) + 1).requires_grad_()
    weight = torch.randn(*axes, 4)
    found = own(x)
    expected = theirs(x.reshape(-1, 4, 1).contiguous()).view(x.shape)
    torch.testing.assert_close(found, expected)
    one, two = (torch.autograd.grad((out * weight).sum(), x, retain_graph=True)[0] for out in (found, expected))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(own.running_mean, theirs.running_mean)
    torch.testing.assert_close(own.running_var, theirs.running_var)


def test_a_single_row_is_normalised_with_what_is_recorded_and_recorded_nowhere() -> None:
    norm, x = RowNorm(3).train(), torch.randn(1, 3)
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.running_var.fill_(4.0)
    expected = (x - torch.tensor([1.0, 2.0, 3.0])) / (4 + 1e-5) ** 0.5
    torch.testing.assert_close(norm(x), expected)
    assert norm.running_mean.tolist() == [1, 2, 3]
    assert torch.equal(norm.eval()(x), norm.train()(x))


def test_two_layers_are_linear_norm_relu_linear() -> None:
    torch.manual_seed(0)
    layers = two_layers(3, 5, 2).train()
    assert isinstance(layers[0], NormedLinear)
    x = torch.randn(4, 6, 3)
    rows = x.reshape(-1, 3) @ layers[0].linear.weight.T + layers[0].linear.bias
    normal = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    expected = normal.clamp(min=0) @ layers[1].weight.T + layers[1].bias
    torch.testing.assert_close(layers(x), expected.view(4, 6, 2))


@pytest.mark.parametrize("rows", [1, 5])
def test_gradients_are_those_of_finite_differences(rows: int) -> None:
    torch.manual_seed(0)
    layers = two_layers(3, 4, 2).double().train()
    x = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layers(x), (x, *layers.parameters()))
