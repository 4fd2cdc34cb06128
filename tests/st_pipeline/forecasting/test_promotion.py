"""What an action changes, what it refuses, and that it is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.promotion import Request, act, eligible
from st_pipeline.forecasting.serving import serving
from st_pipeline.storage import FRAME, lake

MODELS = [{"name": name, "backbone": "stgnn", "strategy": "online"} for name in ("one", "two", "three")]
LAST = "2024-01-15"


@pytest.fixture
def stream(make_stream: Any, workspace: Any, fill_losses: Callable[..., None]) -> Any:
    """`two` has been better than `one` in the last two periods, `three` in the last alone."""
    fill_losses("small", {"one": 0.0, "two": (1.0, -1.0, -1.0), "three": (0.0, 0.0, -1.0)})
    return make_stream(models=MODELS)


def ask(stream: Any, action: str, model: str = "", **more: Any) -> Any:
    return act(stream, Request(action=action, model=model, by="me", **more))[0]


def drilled(made_drill: Any, model: str, loss: float, **changes: Any) -> None:
    lake().write(("small", model, "backbone"), LAST, FRAME, b"")  # only its name is looked at
    (lake().root / "small" / model / "backbone" / f"{LAST}.safetensors").touch()
    frame = made_drill(model, LAST, {"noise": loss}, **changes)
    lake().write(("small", model, "drill"), LAST, FRAME, FRAME.dump(frame))


def test_a_better_model_is_promoted_with_its_evidence_and_rolled_back(stream: Any) -> None:
    state = ask(stream, "promote", "two", reason="summer is over")
    (promoted,) = state.history
    assert (state.champion, promoted.model, promoted.before) == ("two", "two", "one")
    assert (promoted.by, promoted.reason) == ("me", "summer is over")
    assert promoted.evidence["standing"]["tested"]["mark"] == "better"
    assert promoted.evidence["standing"]["rule"]["periods"] == 2
    state = ask(stream, "rollback")
    assert state.champion == "one" and state.history[-1].before == "two"
    assert serving(stream) == state


def test_one_good_period_is_not_enough_unless_it_is_forced_with_a_reason(stream: Any) -> None:
    with pytest.raises(InputError, match="three is not promoted: three is not at least 1 % below the champion one"):
        ask(stream, "promote", "three")
    with pytest.raises(InputError, match="a forced promotion needs a reason"):
        ask(stream, "promote", "three", force=True, reason=" ")
    assert serving(stream).champion == "one" and not serving(stream).history
    state = ask(stream, "promote", "three", force=True, reason="one cannot be served any more")
    assert state.champion == "three"
    (over,) = state.history[0].evidence["forced_over"]
    assert "in each of the last 2 periods" in over and "forced over" in state.history[0].row()["evidence"]


def test_what_is_so_already_changes_nothing(stream: Any) -> None:
    assert not ask(stream, "promote", "one").history
    assert not ask(stream, "unfreeze").history
    assert not ask(stream, "unshadow", "two").history
    for _ in range(2):
        for action, model in (("shadow", "three"), ("freeze", ""), ("promote", "two")):
            state = ask(stream, action, model)
    assert [event.action for event in state.history] == ["shadow", "freeze", "promote"]
    before = act(stream, Request())
    assert act(stream, Request()) == before and before[0] == state


def test_a_retried_run_rolls_back_once(stream: Any) -> None:
    ask(stream, "promote", "two")
    ask(stream, "promote", "three", force=True, reason="r")
    for _ in range(2):
        state = ask(stream, "rollback", run="the same run")
    assert state.champion == "two" and len(state.history) == 3
    assert ask(stream, "rollback", run="another").champion == "one"


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (Request(action="promte"), "there is no action 'promte'; did you mean 'promote'?"),
        (Request(action="promote", model="tow"), "has no model 'tow'; did you mean 'two'?"),
        (Request(action="rollback"), "there is no promotion to roll back; one has served from the beginning"),
        (Request(action="rollback", model="two"), "rollback takes no model, found 'two'"),
        (Request(action="shadow", model="one"), "'one' serves; a shadow is another model"),
    ],
)
def test_what_cannot_be_done_is_told(stream: Any, request_: Request, told: str) -> None:
    with pytest.raises(InputError) as failure:
        act(stream, request_)
    assert told in str(failure.value)
    assert not (lake().root / "small" / "champion.json").exists()


def test_only_challengers_are_eligible_where_they_are_named(make_stream: Any, stream: Any) -> None:
    assert eligible(stream) == ("one", "two", "three")
    named = make_stream(models=MODELS, challengers=["two"])
    assert eligible(named) == ("one", "two")
    with pytest.raises(InputError, match="'three' is not among its challengers"):
        ask(named, "shadow", "three")
    assert ask(named, "promote", "two").champion == "two"


def test_a_model_that_is_no_longer_there_is_not_rolled_back_to(stream: Any) -> None:
    ask(stream, "promote", "two")
    shorter = stream.model_copy(update={"models": stream.models[1:]})
    with pytest.raises(InputError, match="'one', which served before, is no longer in the stream file"):
        ask(shorter, "rollback")


def test_the_drill_is_asked_for_and_judged(stream: Any, made_drill: Any) -> None:
    with pytest.raises(InputError, match="two has learned no period"):
        ask(stream, "promote", "two", require_drill=True)
    drilled(made_drill, "two", 30.0)
    with pytest.raises(InputError, match="one has no robustness drill of 2024-01-15"):
        ask(stream, "promote", "two", require_drill=True)
    drilled(made_drill, "one", 20.0)
    with pytest.raises(InputError, match=r"two loses 30.0 points of skill .*, the champion one 20.0"):
        ask(stream, "promote", "two", require_drill=True)
    drilled(made_drill, "two", 25.0)
    state = ask(stream, "promote", "two", require_drill=True)
    assert state.history[0].evidence["drill"]["loss"] == 25.0
    drilled(made_drill, "three", 20.0, failed=("noise",))
    with pytest.raises(InputError, match="three did not survive noise"):
        ask(stream, "promote", "three", require_drill=True)


def test_two_at_once_lose_nothing(stream: Any) -> None:
    names = [Request(action="shadow", model="two"), Request(action="freeze"), Request(action="shadow", model="three")]
    threads = [threading.Thread(target=act, args=(stream, request)) for request in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = serving(stream)
    assert {*state.shadows} == {"two", "three"} and state.frozen and len(state.history) == 3
