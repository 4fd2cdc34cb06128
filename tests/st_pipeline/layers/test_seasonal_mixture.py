"""The mixture is linear in the latest values and in what the season before says of each step of the forecast."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.layers.seasonal_mixture import SeasonalMixture
from st_pipeline.types import SeriesShape

NODES = 3
SHAPES = {
    "lagged": SeriesShape(window=4, horizon=4, channels=6, num_nodes=NODES, steps_per_day=24, lags=2),
    "longer_window": SeriesShape(window=8, horizon=3, channels=3, num_nodes=NODES, steps_per_day=24, lags=1),
    "longer_horizon": SeriesShape(window=4, horizon=6, channels=3, num_nodes=NODES, steps_per_day=24, lags=1),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_it_equals_the_sum_over_channels_and_lags_step_by_step(shape: SeriesShape, random_window) -> None:
    layer, window = SeasonalMixture(shape), random_window(shape)
    for part in layer.parameters():
        torch.nn.init.normal_(part)
    found = layer(window)
    first = shape.channels - shape.lags
    for node in range(NODES):
        for step in range(shape.horizon):
            values = window.values[:, :, node]
            expected = sum(values[:, -1, c] * layer.latest[c, step] for c in range(shape.channels))
            if step < shape.window:
                expected = expected + sum(
                    values[:, step, first + k] * layer.mixture[k, step] for k in range(shape.lags)
                )
            torch.testing.assert_close(found[:, node, step], expected)


def test_it_starts_as_the_mean_of_the_lags_and_again_after_a_reset(random_window) -> None:
    shape = SHAPES["lagged"]
    layer, window = SeasonalMixture(shape), random_window(shape)
    expected = window.values[..., -2:].mean(-1).transpose(1, 2)
    torch.testing.assert_close(layer(window), expected)
    for part in layer.parameters():
        torch.nn.init.normal_(part)
    layer.reset_parameters()
    torch.testing.assert_close(layer(window), expected)


def test_without_lags_it_starts_as_the_last_value(random_window) -> None:
    shape = SeriesShape(window=4, horizon=6, channels=2, num_nodes=NODES, steps_per_day=24)
    window = random_window(shape)
    found = SeasonalMixture(shape)(window)
    torch.testing.assert_close(found, window.values[:, -1, :, :1].expand(-1, -1, 6))
