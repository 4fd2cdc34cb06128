"""The replay: the best action in hindsight, matches, regret and cost of every way to choose."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.evaluation.actions import Outcomes
from st_pipeline.evaluation.advice_rule import ACTIONS, DEFAULT, Signals
from st_pipeline.evaluation.replay import GROWTH, Case, calibrated, cases, replay

QUIET, GROWN = Signals(nodes=100, new=0), Signals(nodes=100, new=30)
SECONDS = {"nothing": 0.0, "prompts_only": 2.0, "retrain": 9.0}


def case(period: str, signals: Signals, *errors: float) -> Case:
    known = dict(zip(ACTIONS, errors, strict=False))
    return Case(period, signals, known, {action: SECONDS[action] for action in known})


def policies(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["policy"]: row for row in found["policies"]}


@pytest.mark.parametrize(
    ("errors", "best"),
    [
        ((100, 99, 98.5), "nothing"),
        ((110, 100, 98.5), "prompts_only"),
        ((110, 105, 100), "retrain"),
        ((100, 140, 120), "nothing"),
    ],
)
def test_the_best_action_is_the_cheapest_within_the_tolerance(errors: tuple[float, ...], best: str) -> None:
    assert case("1", QUIET, *errors).best(2.0) == best


def test_the_cheapest_is_that_which_took_least() -> None:
    quick = Case("1", QUIET, dict.fromkeys(ACTIONS, 5.0), {"nothing": 0.0, "prompts_only": 9.0, "retrain": 1.0})
    assert quick.actions == ["nothing", "retrain", "prompts_only"]


def test_matches_regret_and_seconds_are_counted() -> None:
    found = replay([case("1", QUIET, 10, 10, 10), case("2", GROWN, 12, 10, 8), case("3", GROWN, 20, 10, 11)])
    assert [row["advice"] for row in found["periods"]] == ["nothing", "prompts_only", "prompts_only"]
    assert [row["best"] for row in found["periods"]] == ["nothing", "retrain", "prompts_only"]
    assert (found["matches"], found["judged"], found["unjudged"]) == (2, 3, 0)
    low, high = found["interval"]
    assert low < 2 / 3 < high
    told = policies(found)
    assert told["advice"] | {"regret": pytest.approx(2 / 3)} == told["advice"]
    assert told["advice"]["seconds"] == 4 and told["always retrain"]["seconds"] == 27
    assert told["always nothing"]["regret"] == pytest.approx(14 / 3)
    assert told["advice"]["regret_percent"] == pytest.approx(100 * 2 / 28)
    assert told["hindsight"]["matches"] == 3


def test_an_unknown_action_is_said_and_not_judged() -> None:
    broken = Signals(nodes=100, new=0, compared=100, shifted=100, profile=9.0)
    found = replay([case("1", QUIET, 10, 9), case("2", broken, 10, 9)])
    assert found["unknown"] == ["retrain"]
    assert (found["judged"], found["unjudged"]) == (1, 1)
    assert policies(found)["always retrain"]["regret"] is None
    assert policies(found)["always prompts_only"]["matches"] == 1


def test_without_cases_there_is_nothing_to_say() -> None:
    found = replay([])
    assert found["policies"] == [] and found["interval"] is None and found["judged"] == 0


@given(st.lists(st.tuples(st.booleans(), *[st.floats(1, 50)] * 3), min_size=1, max_size=6))
def test_hindsight_matches_always_and_no_regret_is_negative(drawn: list[tuple[bool, float, float, float]]) -> None:
    made = [case(str(place), GROWN if grown else QUIET, *errors) for place, (grown, *errors) in enumerate(drawn)]
    found = replay(made)
    told = policies(found)
    assert told["hindsight"]["matches"] == len(made)
    assert all(row["regret"] >= 0 for row in told.values())
    assert told["hindsight"]["regret_percent"] <= DEFAULT.tolerance + 1e-9
    assert found["matches"] == told["advice"]["matches"]


def test_cases_are_the_advised_periods_with_known_outcomes() -> None:
    errors = {"nothing": {"2": 5.0, "3": 5.0}, "prompts_only": {"1": 4.0, "2": 4.0, "3": 4.0}, "retrain": {"2": 3.0}}
    seconds = {"nothing": {"2": 0.0, "3": 0.0}, "prompts_only": {"1": 1.0, "2": 1.0}, "retrain": {"2": 2.0}}
    documents = [{"period": key, "signals": asdict(QUIET)} for key in ("3", "2", "1")]
    (found,) = cases(documents, Outcomes(errors, seconds))
    assert (found.period, found.signals) == ("2", QUIET)
    assert found.actions == list(ACTIONS)


def test_calibration_finds_the_limit_that_separates_and_of_equals_the_largest() -> None:
    small, large = Signals(nodes=100, new=3), Signals(nodes=100, new=12)
    found = calibrated([case("1", small, 10, 10), case("2", large, 12, 10)])
    assert found.growth == max(limit for limit in GROWTH if 0.03 < limit <= 0.12)
    assert (found.shifted, found.broken, found.tolerance) == (DEFAULT.shifted, DEFAULT.broken, DEFAULT.tolerance)
