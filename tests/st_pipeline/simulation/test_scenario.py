"""A scenario refuses what cannot be simulated and says what to do."""

from __future__ import annotations

from dataclasses import fields
from datetime import date, datetime

import numpy as np
import pytest

from st_pipeline.simulation import Scenario

RATES = [field.name for field in fields(Scenario) if field.name.endswith("_rate")]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"periods": 0}, "periods is 0; expected a whole number from 1"),
        ({"periods": 2.0}, "periods is 2.0; expected a whole number"),
        ({"days": 0}, "days is 0; expected a whole number from 1"),
        ({"sensors": True}, "sensors is True; expected a whole number from 2"),
        ({"growth": -1}, "growth is -1; expected a whole number from 0"),
        ({"seed": -3}, "seed is -3"),
        ({"step_minutes": 7}, "step_minutes is 7; expected one of 5, 10, 15"),
        ({"step_minutes": 1}, "step_minutes is 1; expected a whole number from 5 to 60"),
        ({"start": "2024-01-01"}, "start is '2024-01-01'; expected a datetime.date"),
        ({"start": datetime(2024, 1, 1)}, "expected a datetime.date"),
        ({"start": date(1066, 10, 14)}, "between the years 1980 and 2200"),
        ({"sensors": 1500, "growth": 300}, "make 2700; expected at most 2000"),
        ({"periods": 100, "days": 100, "growth": 0}, "100 periods of 100 days make 10000 days; expected at most 1500"),
        ({"demand_growth": float("nan")}, "demand_growth is nan"),
        *[({rate: 0.3}, f"{rate} is 0.3; expected a number from 0 to 0.2") for rate in RATES],
    ],
)
def test_bad_settings_are_refused_with_a_sentence(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Scenario(**setting)
    assert message in str(error.value)


def test_periods_follow_each_other() -> None:
    scenario = Scenario(start=date(2024, 2, 26), days=3, periods=2)
    assert [scenario.period_start(period) for period in range(3)] == [
        date(2024, 2, 26),
        date(2024, 2, 29),
        date(2024, 3, 3),
    ]
    assert scenario.steps == 3 * 288


def test_random_numbers_differ_by_purpose_period_and_seed() -> None:
    draws = [
        Scenario(seed=seed).rng(purpose, period).random()
        for seed in (1, 2)
        for purpose in ("a", "b")
        for period in (0, 1)
    ]
    assert len(np.unique(draws)) == 8
    assert Scenario().rng("a").random() == Scenario(periods=9).rng("a").random()
