"""Labels are encoded node by node, and those that were not observed are not there."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import gelu

from st_pipeline.layers.label_encoder import LabelEncoder
from st_pipeline.types import SeriesShape, Target

NODES = 4
SHAPE = SeriesShape(window=5, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)


def labels(seed: int = 0) -> Target:
    generator = torch.Generator().manual_seed(seed)
    size = (3, SHAPE.horizon, NODES)
    return Target(torch.randn(size, generator=generator), torch.rand(size, generator=generator) < 0.6)


@pytest.mark.parametrize("deep", [(6,), (2, 6)])
def test_the_encoder_is_two_layers_on_labels_mask_and_calendar(random_window, deep: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    encoder, window, target = LabelEncoder(SHAPE, deep), random_window(SHAPE), labels()
    found = encoder(target, window)
    assert found.shape == (3, *deep[:-1], NODES, 6)
    for batch in range(3):
        angle = 2 * math.pi * float(window.time_of_day[batch, 5]) / 24
        day = [float(day == int(window.day_of_week[batch, 5])) for day in range(7)]
        for node in range(NODES):
            seen = target.observed[batch, :, node].tolist()
            own = [
                value if known else 0.0
                for value, known in zip(target.values[batch, :, node].tolist(), seen, strict=True)
            ]
            row = torch.tensor([*own, *map(float, seen), math.cos(angle), math.sin(angle), *day])
            expected = encoder.outward(gelu(encoder.inward(row))).view(deep)
            torch.testing.assert_close(found[batch, ..., node, :], expected)


@pytest.mark.parametrize("filling", [7.0, float("nan"), float("inf")])
def test_a_label_that_was_not_observed_is_not_read(random_window, filling: float) -> None:
    encoder, window, target = LabelEncoder(SHAPE, (6,)), random_window(SHAPE), labels()
    other = target._replace(values=torch.where(target.observed, target.values, filling))
    assert torch.equal(encoder(target, window), encoder(other, window))
