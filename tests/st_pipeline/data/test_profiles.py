"""The change of each sensor's usual week."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from st_pipeline.data.profiles import profile_shift
from st_pipeline.data.quality import MISSING
from st_pipeline.data.tensors import SeriesTensor

MakeTensor = Callable[..., SeriesTensor]
HOUR = timedelta(hours=1)
WEEK = 168


def weeks(count: int, *, sensors: int = 2) -> np.ndarray:
    """(L, sensors): the same week again and again, another one for each sensor."""
    week = np.random.default_rng(0).gamma(3, 10, (WEEK, sensors))
    return np.tile(week, (count, 1)).astype(np.float32)


def shifts(now: SeriesTensor, before: SeriesTensor | None, step: timedelta = HOUR) -> dict[str, float | None]:
    return dict(profile_shift(now, before, step).iter_rows())


def test_the_same_week_has_not_changed_whatever_the_order_and_the_number_of_weeks(make_tensor: MakeTensor) -> None:
    found = shifts(make_tensor(weeks(2), "ab"), make_tensor(weeks(3)[:, ::-1], "ba"))
    assert found == {"a": pytest.approx(0, abs=1e-6), "b": pytest.approx(0, abs=1e-6)}


def test_a_shift_of_the_level_counts_in_deviations(make_tensor: MakeTensor) -> None:
    values = weeks(3)
    found = shifts(make_tensor(values + 7, "ab"), make_tensor(values, "ab"))
    assert found == {name: pytest.approx(7 / values[:, place].std(), rel=1e-4) for place, name in enumerate("ab")}


def test_a_shift_of_the_clock_changes_the_week_and_not_the_distribution(make_tensor: MakeTensor) -> None:
    values = weeks(2)
    found = shifts(make_tensor(np.roll(values, 1, axis=0), "ab"), make_tensor(values, "ab"))
    assert all(shift is not None and shift > 0.5 for shift in found.values())


def test_hours_are_the_mean_of_their_steps(make_tensor: MakeTensor) -> None:
    quarter = timedelta(minutes=15)
    hourly = np.repeat(weeks(1), 4, axis=0)
    noisy = hourly + np.tile([-3, 3, -1, 1], WEEK)[:, None]
    made = (make_tensor(values, "ab") for values in (noisy, hourly))
    now, before = (replace(one, times=one.times[0] + 900 * np.arange(4 * WEEK)) for one in made)
    assert shifts(now, before, quarter) == {"a": pytest.approx(0, abs=1e-5), "b": pytest.approx(0, abs=1e-5)}


def test_missing_cells_do_not_enter_and_too_few_hours_are_not_compared(make_tensor: MakeTensor) -> None:
    values = weeks(2)
    spoilt = values.copy()
    spoilt[:WEEK, 0] = 1e6
    flags = np.zeros(values.shape, int)
    flags[:WEEK, 0] = MISSING
    flags[20:, 1] = MISSING
    found = shifts(make_tensor(spoilt, "ab", flags=flags), make_tensor(values, "ab"))
    assert found == {"a": pytest.approx(0, abs=1e-6), "b": None}


def test_new_sensors_and_constant_ones_have_no_shift(make_tensor: MakeTensor) -> None:
    constant = np.full((WEEK, 2), 5.0)
    assert shifts(make_tensor(weeks(1), "ab"), make_tensor(constant, "ac")) == {"a": None, "b": None}
    assert shifts(make_tensor(weeks(1), "ab"), None) == {"a": None, "b": None}
