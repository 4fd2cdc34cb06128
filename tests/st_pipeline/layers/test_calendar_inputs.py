"""The calendar stands beside the readings of every node, step by step, as fractions."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.layers.calendar_inputs import calendar_fractions, with_calendar
from st_pipeline.types import SeriesShape

SHAPE = SeriesShape(window=5, horizon=4, channels=2, num_nodes=3, steps_per_day=24)


def test_fractions_are_those_of_the_day_and_of_the_week_for_window_and_forecast(random_window) -> None:
    window = random_window(SHAPE)
    found = calendar_fractions(window, SHAPE)
    assert found.shape == (3, 9, 2)
    assert found.min() >= 0
    assert found.max() < 1
    for batch in range(3):
        for step in range(9):
            slot, day = int(window.time_of_day[batch, step]), int(window.day_of_week[batch, step])
            assert found[batch, step].tolist() == pytest.approx([slot / 24, day / 7])


@pytest.mark.parametrize("steps_per_day", [24, 48, 96, 288])
def test_a_slot_can_be_read_back_from_its_fraction(steps_per_day: int, random_window) -> None:
    shape = SeriesShape(window=steps_per_day, horizon=1, channels=1, num_nodes=1, steps_per_day=steps_per_day)
    window = random_window(shape)
    slots = (calendar_fractions(window, shape)[..., 0] * steps_per_day).long()
    assert torch.equal(slots, window.time_of_day)


@pytest.mark.parametrize("week", [False, True])
def test_each_node_has_its_readings_and_the_same_calendar(week: bool, random_window) -> None:
    window = random_window(SHAPE)
    found = with_calendar(window, SHAPE, week=week)
    assert found.shape == (3, 5, 3, 4 if week else 3)
    assert found.movedim(-2, 0).is_contiguous()
    assert torch.equal(found[..., :2], window.values)
    for node in range(3):
        assert torch.equal(found[:, :, node, 2:], calendar_fractions(window, SHAPE)[:, :5, : 2 if week else 1])
