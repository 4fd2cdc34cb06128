"""The mixer: its size, its arithmetic, and how sensors reach each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stmixer import STMixer
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet, SeriesShape

SHAPE = SeriesShape(window=5, horizon=3, channels=2, num_nodes=4, steps_per_day=24)
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SMALL = {"hidden": 8, "slots": 3, "blocks": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> STMixer:
    torch.manual_seed(0)
    return backbones.build({"name": "stmixer", **SMALL, **options}, shape=shape).eval()


def test_the_size_is_that_of_its_parts() -> None:
    model = backbones.build("stmixer", shape=PUBLISHED)
    embedding = (12 * 64 + 64) + 207 * 64 + (288 + 7) * 32
    block = 2 * 2 * 64 + 2 * 207 * 16 + (64 * 128 + 128) + (128 * 64 + 64)
    assert count_parameters(model) == embedding + 3 * block + 2 * 64 + (64 * 12 + 12) == 94_796


def test_a_sensor_costs_one_row_of_every_table() -> None:
    model = backbones.build("stmixer", shape=PUBLISHED)
    before = count_parameters(model)
    model.expand(NodeSet.of(map(str, range(217))))
    assert count_parameters(model) - before == 10 * (64 + 3 * 2 * 16)


def test_the_forecast_is_that_of_the_formulas(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    weights = model.state_dict()

    def layer(name: str, x: Tensor) -> Tensor:
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return layer_norm(x, (8,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    flat = torch.stack([window.values[:, :, node].transpose(1, 2).flatten(1) for node in range(4)], 1)
    slot, day = window.time_of_day[:, 4], window.day_of_week[:, 4]
    when = torch.cat([weights["calendar.time_of_day"][slot], weights["calendar.day_of_week"][day]], -1)
    h = layer("start", flat) + when[:, None] + weights["nodes.rows"]
    for block in (f"blocks.{place}" for place in range(2)):
        gather, spread = (weights[f"{block}.nodes.{name}.rows"] for name in ("gathering", "spreading"))
        slots = gelu(torch.einsum("nr,bnf->brf", gather.softmax(0), norm(f"{block}.before_nodes", h)))
        h = h + torch.einsum("nr,brf->bnf", spread, slots)
        h = h + layer(f"{block}.outward", gelu(layer(f"{block}.inward", norm(f"{block}.before_features", h))))
    expected = layer("fc", norm("norm", h)).transpose(1, 2)
    torch.testing.assert_close(model(window, random_graph(4)), expected, rtol=1e-4, atol=1e-5)


def test_sensors_reach_each_other_through_the_slots_alone(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    values = window.values.clone()
    values[:, :, 1] += 1
    other = window._replace(values=values)
    assert (model(other, random_graph(4)) != model(window, random_graph(4))).any(1).all()
    with torch.no_grad():
        for block in model.blocks:
            block.nodes.spreading.appended.zero_()
    changed = model(other, random_graph(4)) != model(window, random_graph(4, seed=1))
    assert changed.any((0, 1)).tolist() == [False, True, False, False]


def test_a_sensor_without_weight_changes_nothing_for_the_others(random_window, random_graph) -> None:
    """A network grows by a sensor that the slots have not learned to read: the old forecasts stay."""
    model = make()
    model.expand(NodeSet.of("abcd"))
    window = random_window(replace(SHAPE, num_nodes=5))
    before = model(window._replace(values=window.values[:, :, :4]), random_graph(4))
    model.expand(NodeSet.of("abcde"))
    with torch.no_grad():
        for block in model.blocks:
            block.nodes.gathering.appended.fill_(-100.0)
    torch.testing.assert_close(model(window, random_graph(5))[..., :4], before, rtol=1e-4, atol=1e-5)


def test_a_batch_is_divided_unless_something_is_dropped(random_window, random_graph) -> None:
    window, graph = random_window(SHAPE), random_graph(4)
    dropping, keeping = make(dropout=0.5).train(), make(dropout=0.0).train()
    assert not torch.equal(dropping(window, graph), dropping(window, graph))
    assert torch.equal(keeping(window, graph), keeping(window, graph))
    assert (dropping.divisible, keeping.divisible) == (False, True)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("hidden", 0, "at least 1"), ("slots", 0, "at least 1"), ("blocks", -1, "at least 1"), ("hidden", 7, "an even")],
)
def test_a_size_that_cannot_be_is_refused(option: str, value: int, expected: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'stmixer': {option} is {value}, expected {expected}"):
        make(**{option: value})


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_that_is_no_share_is_refused(dropout: float) -> None:
    with pytest.raises(InputError, match=f"backbone 'stmixer': dropout is {dropout}, expected a share"):
        make(dropout=dropout)


def test_training_lowers_the_loss(assert_loss_falls) -> None:
    assert_loss_falls({"name": "stmixer", **SMALL})
