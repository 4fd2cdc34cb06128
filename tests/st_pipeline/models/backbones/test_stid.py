"""STID: the published size, the formula, and whose identity reaches which forecast."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stid import STID
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape

SHAPE = SeriesShape(window=5, horizon=3, channels=2, num_nodes=4, steps_per_day=24)
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SMALL = {"series": 4, "node": 3, "day": 2, "week": 5, "layers": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> STID:
    torch.manual_seed(0)
    return backbones.build({"name": "stid", **SMALL, **options}, shape=shape).eval()


def test_the_size_is_the_published_one() -> None:
    assert count_parameters(backbones.build("stid", shape=PUBLISHED)) == 117_868


def test_the_forecast_is_that_of_the_formula(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    weights = model.state_dict()
    found = model(window, random_graph(4))
    for batch in range(3):
        slots, days = window.time_of_day[batch], window.day_of_week[batch]
        for node in range(4):
            series = torch.cat([window.values[batch, :, node].t().flatten(), slots[:5] / 24, days[:5] / 7])
            x = [weights["series.weight"] @ series + weights["series.bias"], weights["nodes.rows"][node]]
            x += [weights["calendar.time_of_day"][slots[4]], weights["calendar.day_of_week"][days[4]]]
            h = torch.cat(x)
            for layer in range(2):
                inward, outward = (f"mlps.{layer}.{name}" for name in ("inward", "outward"))
                inside = torch.relu(weights[f"{inward}.weight"] @ h + weights[f"{inward}.bias"])
                h = h + weights[f"{outward}.weight"] @ inside + weights[f"{outward}.bias"]
            expected = weights["fc.weight"] @ h + weights["fc.bias"]
            torch.testing.assert_close(found[batch, :, node], expected, rtol=1e-4, atol=1e-5)


def test_no_sensor_sees_another(assert_alone) -> None:
    assert_alone(make(), SHAPE)


def test_alike_windows_of_two_sensors_or_times_have_forecasts_of_their_own(random_window, random_graph) -> None:
    """What STID is for: the same readings need not go on the same way."""
    model, window, graph = make(), random_window(SHAPE), random_graph(4)
    same = window._replace(values=window.values[:, :, :1].expand(-1, -1, 4, -1))
    forecast = model(same, graph)
    assert not torch.isclose(forecast[..., :1], forecast[..., 1:], atol=1e-4).all()
    for change in ({"time_of_day": (same.time_of_day + 5) % 24}, {"day_of_week": (same.day_of_week + 2) % 7}):
        assert not torch.allclose(model(same._replace(**change), graph), forecast, atol=1e-4)


def test_the_calendar_of_the_forecast_is_not_used(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(4)
    blank = {name: getattr(window, name).clone() for name in ("time_of_day", "day_of_week")}
    for part in blank.values():
        part[:, 5:] = 0
    assert torch.equal(model(window._replace(**blank), graph), model(window, graph))


def test_a_batch_is_divided_unless_something_is_dropped(random_window, random_graph) -> None:
    window, graph = random_window(SHAPE), random_graph(4)
    dropping, keeping = make().train(), make(dropout=0.0).train()
    assert not torch.equal(dropping(window, graph), dropping(window, graph))
    assert torch.equal(keeping(window, graph), keeping(window, graph))
    assert (dropping.divisible, keeping.divisible) == (False, True)


@pytest.mark.parametrize("option", ["series", "node", "day", "week", "layers"])
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'stid': {option} is 0, expected at least 1"):
        make(**{option: 0})


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_that_is_no_share_is_refused(dropout: float) -> None:
    with pytest.raises(InputError, match=f"backbone 'stid': dropout is {dropout}, expected a share"):
        make(dropout=dropout)


def test_training_lowers_the_loss(assert_loss_falls) -> None:
    assert_loss_falls({"name": "stid", **SMALL})
