"""Trend and remainder: how a window is taken apart, what is made of both, and what can be learned with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.dlinear import DLinear, moving_average
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape

SHAPE = SeriesShape(window=7, horizon=3, channels=2, num_nodes=4, steps_per_day=24)
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)


def make(shape: SeriesShape = SHAPE, **options: Any) -> DLinear:
    torch.manual_seed(0)
    return backbones.build({"name": "dlinear", **options}, shape=shape)


def test_the_size_is_that_of_two_linear_layers() -> None:
    assert count_parameters(make(PUBLISHED)) == 2 * (12 * 12 + 12) == 312
    assert count_parameters(make(PUBLISHED, kernel=25)) == 312


@pytest.mark.parametrize("kernel", [1, 3, 5, 25])
def test_the_trend_is_a_mean_with_the_ends_repeated(kernel: int) -> None:
    series = torch.randn(2, 4, 7, requires_grad=True)
    around = nn.functional.pad(series, (kernel // 2, kernel // 2), mode="replicate")
    expected = nn.functional.avg_pool1d(around, kernel, stride=1)
    torch.testing.assert_close(moving_average(series, kernel), expected)
    mine, theirs = (
        torch.autograd.grad(out.square().sum(), series)[0] for out in (moving_average(series, kernel), expected)
    )
    torch.testing.assert_close(mine, theirs)


def test_trend_and_remainder_are_the_window(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    trend, remainder = model.embed(window, random_graph(4)).chunk(2, dim=-1)
    for node in range(4):
        for channel in range(2):
            own = slice(7 * channel, 7 * channel + 7)
            series = window.values[:, :, node, channel]
            torch.testing.assert_close(trend[:, node, own] + remainder[:, node, own], series)
            torch.testing.assert_close(trend[:, node, own], moving_average(series, 5))


def test_each_part_has_a_layer_of_its_own(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    trend, remainder = model.embed(window, random_graph(4)).chunk(2, dim=-1)
    expected = (model.trend(trend) + model.remainder(remainder)).transpose(1, 2)
    torch.testing.assert_close(model(window, random_graph(4)), expected, rtol=1e-4, atol=1e-5)


def test_no_sensor_sees_another(assert_alone) -> None:
    assert_alone(make(), SHAPE)


def test_it_can_go_on_with_a_straight_line_where_copying_cannot(random_window, random_graph) -> None:
    """y = a + b t of every slope: a linear map of the window forecasts it exactly."""
    model, window, graph = make(), random_window(SHAPE, batch=32), random_graph(4)
    level, slope = torch.randn(32, 1, 4, 1), torch.randn(32, 1, 4, 1)
    line = level + slope * torch.arange(10)[None, :, None, None] / 10
    window = window._replace(values=torch.cat([line[:, :7], torch.zeros(32, 7, 4, 1)], dim=-1))
    hidden = model.embed(window, graph).flatten(0, 1).detach()
    weight = torch.linalg.lstsq(hidden, line[:, 7:, :, 0].transpose(1, 2).flatten(0, 1), driver="gelsd").solution
    with torch.no_grad():
        model.trend.weight.copy_(weight[:14].t())
        model.remainder.weight.copy_(weight[14:].t())
        for layer in (model.trend, model.remainder):
            layer.bias.zero_()
    torch.testing.assert_close(model(window, graph), line[:, 7:, :, 0], rtol=0, atol=1e-4)
    assert (line[:, 6:7] - line[:, 7:]).abs().mean() > 0.1


@pytest.mark.parametrize("kernel", [0, 4, -3])
def test_a_kernel_without_a_middle_is_refused(kernel: int) -> None:
    with pytest.raises(InputError, match=f"backbone 'dlinear': kernel is {kernel}, expected an odd number"):
        make(kernel=kernel)


def test_training_lowers_the_loss(assert_loss_falls) -> None:
    assert_loss_falls({"name": "dlinear"})
