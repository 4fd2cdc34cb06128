"""The recurrent network: its size, its arithmetic against cells, and sensors that do not see each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.gru import GRU
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape

SHAPE = SeriesShape(window=5, horizon=3, channels=2, num_nodes=4, steps_per_day=24)
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)


def make(shape: SeriesShape = SHAPE, **options: Any) -> GRU:
    torch.manual_seed(0)
    return backbones.build({"name": "gru", "hidden": 8, **options}, shape=shape)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_size_is_that_of_its_layers(layers: int) -> None:
    start, head = 2 * 64 + 64, 64 * 12 + 12
    assert count_parameters(make(PUBLISHED, hidden=64, layers=layers)) == start + layers * 6 * (64**2 + 64) + head


def test_the_published_size_does_not_depend_on_the_network() -> None:
    assert count_parameters(backbones.build("gru", shape=PUBLISHED)) == 25_932


@pytest.mark.parametrize("layers", [1, 2])
def test_the_forecast_is_that_of_cells_one_step_and_sensor_at_a_time(layers: int, random_window, random_graph) -> None:
    model, window = make(layers=layers), random_window(SHAPE)
    cells = [nn.GRUCell(8, 8) for _ in range(layers)]
    for place, cell in enumerate(cells):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(model.gru, f"{name}_l{place}") for name in names})
    found = model(window, random_graph(4))
    for batch in range(3):
        for node in range(4):
            states = [torch.zeros(8)] * layers
            for step in range(5):
                time_of_day = window.time_of_day[batch, step, None] / 24
                x = model.start(torch.cat([window.values[batch, step, node], time_of_day]))
                for place, cell in enumerate(cells):
                    x = states[place] = cell(x, states[place])
            torch.testing.assert_close(found[batch, :, node], model.fc(x), rtol=1e-4, atol=1e-5)


def test_no_sensor_sees_another(assert_alone) -> None:
    assert_alone(make(), SHAPE)


def test_the_calendar_behind_the_window_and_the_weekday_are_not_seen(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(4)
    late = window.time_of_day.clone()
    late[:, 5:] = 0
    other = window._replace(time_of_day=late, day_of_week=(window.day_of_week + 1) % 7)
    assert torch.equal(model(other, graph), model(window, graph))
    early = window._replace(time_of_day=(window.time_of_day + 6) % 24)
    assert not torch.allclose(model(early, graph), model(window, graph), atol=1e-4)


@pytest.mark.parametrize("option", ["hidden", "layers"])
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'gru': {option} is 0, expected at least 1"):
        make(**{option: 0})


def test_training_lowers_the_loss(assert_loss_falls) -> None:
    assert_loss_falls({"name": "gru", "hidden": 8})
