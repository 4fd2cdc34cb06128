"""An alert is told once until it clears; what cannot be delivered is tried again, and never harms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from st_pipeline.alerts.book import FIRST, MOST, Book, Finding
from st_pipeline.alerts.channels import Channel
from st_pipeline.errors import InputError

BAD = Finding("coverage", "small", "warning", "small: the intervals are too narrow.")


class Post(Channel):
    """A channel that keeps what it is given, and fails as often as it is told to."""

    name = "post"

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.sent = failures, []

    def _send(self, note: Mapping[str, Any]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        self.sent.append(dict(note))


def always(key: str) -> bool:
    return True


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]


def test_an_alert_is_told_once_until_it_clears_and_then_resolved(tmp_path: Path) -> None:
    post = Post()
    for now in (100.0, 200.0, 300.0):
        Book([post], tmp_path).tell([BAD], always, now)
        Book([post], tmp_path).deliver(now)
    assert [note["event"] for note in post.sent] == ["opened"]
    assert post.sent[0]["runbook"] == "docs/operations.md#alert-coverage"
    assert [alert["key"] for alert in Book([], tmp_path).open()] == ["coverage:small"]
    book = Book([post], tmp_path)
    assert book.tell([], always, 400.0) == ["coverage:small"]
    book.deliver(400.0)
    assert [note["event"] for note in post.sent] == ["opened", "resolved"]
    assert book.open() == []
    book.tell([BAD], always, 500.0)
    book.deliver(500.0)
    assert [note["event"] for note in post.sent] == ["opened", "resolved", "opened"]


def test_what_a_rule_was_not_asked_about_stays_open(tmp_path: Path) -> None:
    book = Book([], tmp_path)
    book.tell([BAD], always)
    assert book.tell([], lambda key: not key.startswith("coverage")) == []
    assert len(book.open()) == 1


def test_a_failing_channel_is_tried_again_with_growing_pauses_and_noted(tmp_path: Path) -> None:
    post = Post(failures=2)
    book = Book([post], tmp_path)
    book.tell([BAD], always, 0.0)
    assert book.deliver(1000.0) == 1
    assert book.deliver(1000.0 + FIRST / 2) == 1
    assert post.failures == 1, "it was too early"
    assert book.deliver(1000.0 + FIRST) == 1
    assert book.deliver(1000.0 + 2.5 * FIRST) == 1
    assert book.deliver(1000.0 + 3 * FIRST) == 0
    assert len(post.sent) == 1
    failed = [line for line in lines(tmp_path) if line["event"] == "not_delivered"]
    assert [(line["attempt"], line["reason"]) for line in failed] == [
        (1, "ConnectionRefusedError: Connection refused"),
        (2, "ConnectionRefusedError: Connection refused"),
    ]


def test_a_dead_channel_is_given_up(tmp_path: Path) -> None:
    book = Book([Post(failures=100)], tmp_path)
    book.tell([BAD], always, 0.0)
    left = [book.deliver(10_000.0 * turn) for turn in range(1, MOST + 2)]
    assert left == [1] * (MOST - 1) + [0, 0]
    assert lines(tmp_path)[-1]["again"] is False


def test_notes_of_a_channel_that_is_gone_are_dropped(tmp_path: Path) -> None:
    Book([Post()], tmp_path).tell([BAD], always, 0.0)
    assert Book([], tmp_path).deliver(1000.0) == 0


def test_a_message_is_one_line(tmp_path: Path) -> None:
    book = Book([], tmp_path)
    book.tell([Finding("run_failed", "x", "critical", "first\nsecond\r\tthird")], always)
    assert book.open()[0]["message"] == "first second  third"


def test_a_damaged_book_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state.json: damaged .*remove it"):
        Book([], tmp_path).tell([BAD], always)
