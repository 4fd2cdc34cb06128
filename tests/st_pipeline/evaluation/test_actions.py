"""The three actions: the twin that is trained anew, outcomes by period, predicted cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.actions import Outcomes, mean_gain, retrained_twin

MakeStream = Callable[..., StreamConfig]
Tidy = Callable[..., pl.DataFrame]
OWN: dict[str, Any] = {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"}
TWIN = {**OWN, "name": "again", "strategy": "retrain"}
ONE, TWO, THREE = "2024-01-01", "2024-01-08", "2024-01-15"


def twin_name(make_stream: MakeStream, *others: dict[str, Any], **own: Any) -> str | None:
    config = make_stream(models=[{**OWN, **own}, *others])
    found = retrained_twin(config, config.models[0])
    return found.name if found else None


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_pool": {"rank": 3}},
        {"backbone": {"name": "stgnn", "calendar": True}},
        {"protocol": "paper"},
        {"training": {"epochs": 3}},
        {"strategy": "online"},
    ],
)
def test_a_twin_differs_in_the_strategy_alone(make_stream: MakeStream, change: dict[str, Any]) -> None:
    assert twin_name(make_stream, TWIN) == "again"
    assert twin_name(make_stream, {**TWIN, **change}) is None


def test_a_twin_has_no_settings_of_later_periods(make_stream: MakeStream) -> None:
    later = {"training": {"epochs": 9, "later": {"epochs": 2}}}
    assert twin_name(make_stream, {**TWIN, **later}, **later) is None
    assert twin_name(make_stream, {**TWIN, "training": {"epochs": 9}}, **later) == "again"


def test_a_variant_of_a_study_may_be_the_twin(make_stream: MakeStream) -> None:
    study = {"name": "parts", "of": "eac", "cases": {"anew": {"strategy": "retrain"}}}
    config = make_stream(models=[OWN], studies=[study])
    twin = retrained_twin(config, config.models[0])
    assert twin and twin.name == "eac_parts_anew"
    assert retrained_twin(config, twin) is None


@pytest.fixture
def outcomes(make_stream: MakeStream, tidy: Tidy, cost_document: Callable[..., Any]) -> Outcomes:
    own = {
        (ONE, ONE): 8.0,
        (ONE, TWO): 12.0,
        (TWO, TWO): 10.0,
        (TWO, ONE): 9.0,
        (TWO, THREE): 11.0,
        (THREE, THREE): 9.0,
    }
    again = {(ONE, ONE): 8.0, (TWO, TWO): 8.0, (THREE, THREE): 9.9}
    naive = {(key, key): 20.0 for key in (ONE, TWO, THREE)}
    config = make_stream(models=[OWN, TWIN])
    rows = pl.concat([tidy("eac", own), tidy("again", again), tidy("naive_weekly", naive)])
    other = tidy("eac", {(TWO, TWO): 30.0}).with_columns(seed=pl.lit(2, pl.Int64))
    seconds = {"eac": {ONE: 9.0, TWO: 2.0, THREE: 4.0}, "again": {ONE: 9.0, TWO: 8.0}}
    cost = {name: {key: cost_document(s) for key, s in periods.items()} for name, periods in seconds.items()}
    return Outcomes.of(config.models[0], pl.concat([rows, other]), cost, config.models[1])


def test_outcomes_are_of_the_seeds_that_both_have(outcomes: Outcomes) -> None:
    assert outcomes.errors["nothing"] == {TWO: 12.0, THREE: 11.0}
    assert outcomes.errors["prompts_only"] == {ONE: 8.0, TWO: 10.0, THREE: 9.0}
    assert outcomes.errors["retrain"] == {ONE: 8.0, TWO: 8.0, THREE: 9.9}
    assert outcomes.seconds["nothing"] == {TWO: 0.0, THREE: 0.0}
    assert outcomes.tuned[TWO] == 20.0
    assert outcomes.usual(TWO) == 1.0 and outcomes.arrived(TWO) == 0.6
    assert outcomes.usual("2030") is None and outcomes.arrived(ONE) is None


def test_gains_of_retraining_leave_the_first_period_out(outcomes: Outcomes) -> None:
    assert outcomes.retrain_gains == {TWO: pytest.approx(20), THREE: pytest.approx(-10)}
    assert mean_gain(outcomes.before(THREE).retrain_gains) == pytest.approx(20)
    assert mean_gain(outcomes.before(TWO).retrain_gains) is None


def test_nothing_of_a_period_or_later_is_known_before_it(outcomes: Outcomes) -> None:
    before = outcomes.before(TWO)
    known = [*before.errors.values(), *before.seconds.values(), before.tuned, before.frozen, before.naive]
    assert {key for values in known for key in values} == {ONE}


def test_costs_are_medians_of_earlier_periods_and_say_so(outcomes: Outcomes) -> None:
    assert outcomes.predicted_seconds() == {
        "nothing": (0.0, "nothing is trained"),
        "prompts_only": (3.0, "median of 2 earlier tunings"),
        "retrain": (8.0, "median of 1 earlier retraining"),
    }
    second = outcomes.before(TWO).predicted_seconds()
    assert second["prompts_only"] == (None, "no earlier tuning is known")
    assert second["retrain"] == (9.0, "the first period, which is trained from scratch")
    assert Outcomes().predicted_seconds()["retrain"] == (None, "no earlier period is known")
