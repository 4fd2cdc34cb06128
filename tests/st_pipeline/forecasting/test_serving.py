"""Who serves follows from the history; a history that cannot be read is never taken for none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.promotion import Request, act
from st_pipeline.forecasting.serving import Event, Serving, lock_file, replay, served_before, serving, serving_model
from st_pipeline.storage import lake

MODELS = [{"name": name, "backbone": "stgnn", "strategy": "online"} for name in ("one", "two", "three")]


def event(action: str, model: str, before: str = "") -> Event:
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    return Event.model_validate({"at": at, "action": action, "model": model, "before": before, "by": "me"})


@pytest.fixture
def stream(make_stream: Any, workspace: Any) -> Any:
    return make_stream(models=MODELS, champion="two")


def test_the_files_champion_serves_until_one_is_promoted(stream: Any) -> None:
    assert serving(stream) == Serving("two")
    assert serving_model(stream).name == "two"
    assert serving(stream.model_copy(update={"champion": ""})).champion == "one"


def test_a_stream_without_models_has_nobody_to_serve(make_stream: Any, workspace: Any) -> None:
    assert serving(make_stream()).champion == ""
    with pytest.raises(InputError, match="has no model; add one under `models`"):
        serving_model(make_stream())


def test_the_history_decides(stream: Any) -> None:
    history = [event("shadow", "one"), event("promote", "one", "two"), event("shadow", "two"), event("freeze", "one")]
    assert replay(stream, history) == Serving("one", ("two",), True, tuple(history))
    history += [event("unfreeze", "one"), event("unshadow", "two"), event("rollback", "two", "one")]
    assert replay(stream, history) == Serving("two", (), False, tuple(history))


def test_rollbacks_go_back_one_promotion_each() -> None:
    history = [event("promote", "one", "two"), event("promote", "three", "one")]
    assert served_before(history) == "one"
    history.append(event("rollback", "one", "three"))
    assert served_before(history) == "two"
    history.append(event("rollback", "two", "one"))
    assert served_before(history) == ""


def test_a_promoted_model_that_the_file_has_not_gives_way_and_says_so(stream: Any) -> None:
    history = [event("promote", "gone", "two"), event("shadow", "gone_too")]
    found = replay(stream, history)
    assert (found.champion, found.shadows) == ("two", ())
    assert found.note == "gone was promoted and is no longer in the stream file; two of the file serves"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "Invalid JSON"),
        (b'{"champion": "one"', "Invalid JSON"),
        (b"[]", "should be an object"),
        (b'{"champion": "one", "shadows": [], "frozen": false}', "history: Field required"),
        (b'{"champion": "one", "shadows": [], "frozen": false, "history": [{}]}', "history.0.at"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_a_damaged_document_is_an_error_and_stays_as_it_is(stream: Any, payload: bytes, told: str) -> None:
    path = lake().root / "small" / "champion.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(payload)
    for attempt in (lambda: serving(stream), lambda: act(stream, Request(action="freeze", by="me"))):
        with pytest.raises(InputError, match=r"is no history of the champion .*restore it from a backup") as failure:
            attempt()
        assert told in str(failure.value)
    assert path.read_bytes() == payload


def test_a_document_that_is_gone_is_an_error_and_no_beginning(stream: Any) -> None:
    act(stream, Request(action="shadow", model="one", by="me"))
    (lake().root / "small" / "champion.json").unlink()
    with pytest.raises(InputError, match="is gone, although it was stored before"):
        serving(stream)
    with pytest.raises(InputError, match="is gone"):
        act(stream, Request())
    lock_file(stream).unlink()
    assert serving(stream) == Serving("two")
