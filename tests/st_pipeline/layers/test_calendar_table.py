"""Rows of the calendar are those of the slot and the day, and learn from where they are used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape

SHAPE = SeriesShape(window=5, horizon=4, channels=1, num_nodes=2, steps_per_day=24)


@pytest.fixture
def table() -> CalendarTable:
    torch.manual_seed(0)
    return CalendarTable(SHAPE, 3, 2)


@pytest.mark.parametrize("steps", [slice(4, 5), slice(0, 5), slice(5, 9), slice(None)])
def test_each_step_has_the_row_of_its_slot_and_that_of_its_day(table, random_window, steps: slice) -> None:
    window = random_window(SHAPE)
    found = table(window, steps)
    places = range(9)[steps]
    assert found.shape == (3, len(places), table.width)
    for batch in range(3):
        for row, step in zip(found[batch], places, strict=True):
            slot, day = int(window.time_of_day[batch, step]), int(window.day_of_week[batch, step])
            assert torch.equal(row, torch.cat([table.time_of_day[slot], table.day_of_week[day]]))


def test_only_the_rows_that_are_used_learn_and_as_often_as_they_are_used(table, random_window) -> None:
    window = random_window(SHAPE)
    table(window, slice(0, 5)).sum().backward()
    slots = torch.bincount(window.time_of_day[:, :5].flatten(), minlength=24).float()
    days = torch.bincount(window.day_of_week[:, :5].flatten(), minlength=7).float()
    assert torch.equal(table.time_of_day.grad, slots[:, None].expand(-1, 3))
    assert torch.equal(table.day_of_week.grad, days[:, None].expand(-1, 2))


def test_gradients_are_those_of_differences(random_window) -> None:
    table, window = CalendarTable(SHAPE, 2, 1).double(), random_window(SHAPE)

    def found(*rows: torch.Tensor) -> torch.Tensor:
        names = ("time_of_day", "day_of_week")
        return torch.func.functional_call(table, dict(zip(names, rows, strict=True)), (window, slice(0, 3)))

    assert torch.autograd.gradcheck(found, tuple(table.parameters()))


@pytest.mark.parametrize(("day", "week"), [(0, 4), (4, 0), (0, 0)])
def test_either_half_can_be_left_out(day: int, week: int, random_window) -> None:
    table = CalendarTable(SHAPE, day, week)
    assert table(random_window(SHAPE), slice(0, 5)).shape == (3, 5, day + week)
    assert count_parameters(table) == 24 * day + 7 * week


def test_rows_are_drawn_as_asked_for_and_drawn_anew() -> None:
    table = CalendarTable(SHAPE, 400, 400, draw=nn.init.normal_)
    uniform = CalendarTable(SHAPE, 400, 400)
    for _ in range(2):
        assert float(table.time_of_day.detach().std()) == pytest.approx(1, abs=0.1)
        assert float(uniform.time_of_day.detach().abs().max()) == pytest.approx((6 / 424) ** 0.5, rel=0.01)
        with torch.no_grad():
            for parameter in (*table.parameters(), *uniform.parameters()):
                parameter.fill_(7)
        table.reset_parameters()
        uniform.reset_parameters()
