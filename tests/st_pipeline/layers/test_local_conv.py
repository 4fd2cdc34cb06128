"""Localised convolution against one large matrix over sensors and steps, and how it goes on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.local_conv import LocalConv, OtherHops

B, N, F = 2, 5, 3


def walks(*shape: int) -> Tensor:
    return torch.rand(*shape, N, N).softmax(-1)


def powers(matrix: Tensor, order: int) -> list[Tensor]:
    """Every power with its diagonal set to 0."""
    own = torch.eye(N, dtype=torch.bool)
    return [torch.linalg.matrix_power(matrix, k).masked_fill(own, 0) for k in range(1, order + 1)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("windows", [(), (B,)])
def test_hops_are_powers_without_their_diagonals(windows: tuple[int, ...], order: int) -> None:
    torch.manual_seed(0)
    matrix, x = walks(*windows), torch.randn(B, N, 4)
    found = OtherHops.of(matrix, order)(x)
    assert len(found) == order
    for one, power in zip(found, powers(matrix, order), strict=True):
        torch.testing.assert_close(one, power @ x)


def plain(layer: LocalConv, x: Tensor, matrices: list[Tensor], order: int) -> Tensor:
    """One window (N, S, F) -> (N, S', F): graphs of N x (k N) on the stacked steps of all sensors."""
    k, found = layer.kernel, []
    for end in range(k, x.shape[1] + 1):
        span = x[:, end - k : end].flatten(1)  # (N, k * F), oldest step first
        steps = (span @ layer.steps.weight.T).clamp(min=0).view(N, k, F)
        stacked = steps.transpose(0, 1).reshape(k * N, F)
        parts = [steps.mean(1)]
        parts += [power.repeat(1, k) @ stacked for matrix in matrices for power in powers(matrix, order)]
        found.append(torch.cat(parts, dim=-1) @ layer.mix.weight.T + layer.mix.bias)
    return torch.stack(found, dim=1)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "order"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_the_convolution_is_one_matrix_over_sensors_and_steps(kernel: int, order: int) -> None:
    torch.manual_seed(0)
    layer = LocalConv(F, kernel=kernel, graphs=2, order=order, dropout=0.5).eval()
    fixed, own, x = walks(), walks(B), torch.randn(B, N, 6, F)
    found = layer(x, [OtherHops.of(matrix, order) for matrix in (fixed, own)])
    expected = torch.stack([plain(layer, x[b], [fixed, own[b]], order) for b in range(B)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_going_on_reads_the_window_and_then_what_was_found(kernel: int) -> None:
    torch.manual_seed(0)
    layer = LocalConv(F, kernel=kernel, graphs=1, order=2, dropout=0.0)
    graphs, x = [OtherHops.of(walks(), 2)], torch.randn(B, N, 4, F)
    series = [*x.unbind(2), layer(x, graphs)[:, :, -1]]
    for _ in range(4):
        series.append(layer(torch.stack(series[len(series) - kernel :], dim=2), graphs)[:, :, -1])
    for steps in (1, 2, 5):
        ahead = layer.onward(x, series[4], graphs, steps=steps)
        torch.testing.assert_close(ahead, torch.stack(series[4 : 4 + steps], dim=2))


def test_a_sensor_hears_others_through_the_graphs_alone() -> None:
    layer = LocalConv(F, kernel=2, graphs=1, order=2, dropout=0.0)
    line = torch.diag(torch.ones(N - 1), -1)  # each gathers from the one before
    x = torch.randn(1, N, 2, F)
    other = x.clone()
    other[:, 1] += 1
    graphs = [OtherHops.of(line, 2)]
    differs = (layer(other, graphs) - layer(x, graphs)).abs().amax((0, 2, 3)) > 1e-6
    assert differs.tolist() == [False, True, True, True, False]


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = LocalConv(2, kernel=2, graphs=2, order=2, dropout=0.0).double()
    x = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    matrices = [torch.rand(*shape, 3, 3, dtype=torch.float64, requires_grad=True) for shape in ((), (2,))]
    assert torch.autograd.gradcheck(
        lambda x, one, two, *_: layer(x, [OtherHops.of(one, 2), OtherHops.of(two, 2)]), (x, *matrices, layer.mix.weight)
    )
