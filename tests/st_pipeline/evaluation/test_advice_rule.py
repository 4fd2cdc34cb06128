"""The rule: what asks for nothing, for prompts, for training anew, and that more signals never ask for less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.evaluation.advice_rule import ACTIONS, DEFAULT, Signals, decide

QUIET = Signals(nodes=100, new=0, compared=100, shifted=0, profile=0.1, error=-1.0)
SIGNALS = st.builds(
    Signals,
    nodes=st.just(100),
    new=st.integers(0, 100),
    compared=st.just(100),
    shifted=st.integers(0, 100),
    profile=st.none() | st.floats(0, 2),
    error=st.none() | st.floats(-90, 200),
    gain=st.none() | st.floats(-20, 20),
    gains=st.integers(1, 9),
)


def test_no_change_asks_for_nothing_and_says_what_was_looked_at() -> None:
    action, reasons = decide(QUIET)
    assert action == "nothing"
    assert [reason.text.split(" ")[0] for reason in reasons] == ["0", "0", "The"]
    assert {reason.action for reason in reasons} == {"nothing"}


@pytest.mark.parametrize("changes", [{"new": 40}, {"shifted": 60}, {"error": 80.0}])
def test_growth_shift_and_lost_ground_ask_for_prompts(changes: dict[str, float]) -> None:
    action, (reason,) = decide(replace(QUIET, **changes))
    assert action == reason.action == "prompts_only"
    assert str(int(next(iter(changes.values())))) in reason.text


def test_another_usual_week_of_most_sensors_asks_for_training_anew() -> None:
    action, reasons = decide(replace(QUIET, profile=3.0, shifted=100))
    assert action == "retrain"
    assert [reason.action for reason in reasons] == ["retrain", "prompts_only"]


def test_what_retraining_brought_earlier_counts_where_something_is_to_be_done() -> None:
    assert decide(replace(QUIET, gain=9.0, gains=3))[0] == "nothing"
    action, reasons = decide(replace(QUIET, new=40, gain=9.0, gains=3))
    assert action == "retrain"
    assert "9.0 % less error than tuning, on average over 3 earlier periods" in reasons[0].text
    assert decide(replace(QUIET, new=40, gain=DEFAULT.tolerance, gains=3))[0] == "prompts_only"


def test_the_first_period_is_trained() -> None:
    action, (reason,) = decide(Signals(nodes=5, new=0, first=True))
    assert action == "retrain" and "no model yet" in reason.text


def test_what_is_not_known_asks_for_nothing() -> None:
    assert decide(Signals(nodes=5, new=0))[0] == "nothing"


@given(SIGNALS)
def test_the_action_is_that_of_the_strongest_reason(signals: Signals) -> None:
    action, reasons = decide(signals)
    assert reasons and action == max((reason.action for reason in reasons), key=ACTIONS.index) == reasons[0].action
    assert all(reason.text.endswith(".") for reason in reasons)


@given(SIGNALS, st.integers(0, 100), st.integers(0, 100), st.floats(0, 3), st.floats(0, 300))
def test_more_change_never_asks_for_less(
    signals: Signals, new: int, shifted: int, profile: float, error: float
) -> None:
    more = replace(
        signals,
        new=max(signals.new, new),
        shifted=max(signals.shifted, shifted),
        profile=max(signals.profile or 0, profile),
        error=error if signals.error is None else max(signals.error, error),
    )
    assert ACTIONS.index(decide(more)[0]) >= ACTIONS.index(decide(signals)[0])
