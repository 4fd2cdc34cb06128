"""The book of alerts: what is open, told once until it clears, and what still has to be delivered."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from st_pipeline.alerts.channels import Channel
from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.storage import dump_json, home

RUNBOOK = "docs/operations.md#alert-"
FIRST, LONGEST, MOST = 30.0, 3600.0, 12  # seconds to the second attempt, at most; attempts
HELD = 120.0  # seconds that one process has for an attempt
LONGEST_FILE = 10_000_000  # bytes of the log of alerts, of which one older copy is kept
Severity = Literal["critical", "warning", "info"]
Event = Literal["opened", "resolved", "test"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        rule: which of the rules found it; part of the link to the runbook.
        subject: what it is about; rule and subject together are told once until they clear.
        message: one sentence.
    """

    rule: str
    subject: str
    severity: Severity
    message: str

    @property
    def key(self) -> str:
        return f"{self.rule}:{self.subject}"

    @property
    def runbook(self) -> str:
        return RUNBOOK + self.rule.replace("_", "-")


class Book:
    """The alerts of one home, in `<home>/alerts`: `state.json`, and `alerts.jsonl` with everything that was told.

    Args:
        channels: beside the file; each failure is noted there, and tried again later.
    """

    def __init__(self, channels: Sequence[Channel], folder: Path | None = None) -> None:
        self.channels = {channel.name: channel for channel in channels}
        self.folder = folder or home() / "alerts"

    def open(self) -> list[dict[str, Any]]:
        """What is open, oldest first."""
        return sorted(self._read()["open"].values(), key=lambda alert: str(alert["since"]))

    def tell(self, findings: Iterable[Finding], cleared: Callable[[str], bool], now: float | None = None) -> list[str]:
        """Open what is new, resolve what is gone, and return the keys of both.

        Args:
            cleared: of the key of an open alert that is not among the findings, whether it is resolved.
        """
        moment, found = now or time.time(), {finding.key: finding for finding in findings}
        with self._changing() as state:
            changed = [key for key in found if key not in state["open"]]
            gone = [key for key in state["open"] if key not in found and cleared(key)]
            for key in changed:
                state["open"][key] = _alert(found[key], moment)
                self._note(state, "opened", state["open"][key], moment)
            for key in gone:
                self._note(state, "resolved", state["open"].pop(key), moment)
        return [*changed, *gone]

    def test(self, now: float | None = None) -> list[dict[str, Any]]:
        """Send a test through every channel at once; channel, ok and reason of each."""
        moment = now or time.time()
        alert = _alert(Finding("test", "test", "info", "This is a test of st-pipeline's alerts."), moment)
        self._append({"event": "test", **alert})
        results = [{"channel": "file", "ok": True, "reason": str(self.folder / "alerts.jsonl")}]
        for channel in self.channels.values():
            reason = channel.send({"event": "test", **alert})
            results.append({"channel": channel.name, "ok": not reason, "reason": reason or ""})
        return results

    def deliver(self, now: float | None = None) -> int:
        """Try what is due; returns how many notes are still to be delivered. It never raises for a channel."""
        moment = now or time.time()
        with self._changing() as state:
            due = [entry for entry in state["outbox"] if entry["next"] <= moment]
            for entry in due:
                entry["next"] = moment + HELD
        reasons = {entry["id"]: self._send(entry) for entry in due}
        with self._changing() as state:
            kept = []
            for entry in state["outbox"]:
                if entry["id"] in reasons and not self._is_kept(entry, reasons[entry["id"]], moment):
                    continue
                kept.append(entry)
            state["outbox"] = kept
            return len(kept)

    def _send(self, entry: dict[str, Any]) -> str | None:
        channel = self.channels.get(entry["channel"])
        return channel.send(entry["note"]) if channel else "the channel is not set up any more"

    def _is_kept(self, entry: dict[str, Any], reason: str | None, moment: float) -> bool:
        """Whether an entry is tried again; a failure goes to the file."""
        if reason is None:
            return False
        entry["attempts"] += 1
        entry["next"] = moment + min(LONGEST, FIRST * 2 ** (entry["attempts"] - 1))
        again = entry["attempts"] < MOST and entry["channel"] in self.channels
        facts = {"channel": entry["channel"], "key": entry["note"]["key"], "attempt": entry["attempts"]}
        self._append({"event": "not_delivered", "at": _iso(moment), **facts, "reason": reason, "again": again})
        return again

    def _note(self, state: dict[str, Any], event: Event, alert: dict[str, Any], moment: float) -> None:
        """Write a note to the file, and put it in the outbox of every channel."""
        note = {"event": event, **alert, "at": _iso(moment)}
        self._append(note)
        for name in self.channels:
            state["count"] += 1
            state["outbox"].append({"id": state["count"], "channel": name, "note": note, "attempts": 0, "next": 0.0})

    def _append(self, line: dict[str, Any]) -> None:
        path = self.folder / "alerts.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > LONGEST_FILE:
                path.replace(path.with_suffix(".jsonl.1"))
            with path.open("a") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None

    def _read(self) -> dict[str, Any]:
        path = self.folder / "state.json"
        try:
            document = json.loads(path.read_bytes())
            return {"open": dict(document["open"]), "outbox": list(document["outbox"]), "count": int(document["count"])}
        except FileNotFoundError:
            return {"open": {}, "outbox": [], "count": 0}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged ({error}); remove it, alerts that hold are told again") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The state, for one process at a time; written when it is done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("wb")
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written: {error.strerror or error}") from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self._read()
            before = json.dumps(state)
            yield state
            if json.dumps(state) != before:
                write_atomic(self.folder / "state.json", dump_json(state))


def _alert(finding: Finding, moment: float) -> dict[str, Any]:
    message = "".join(letter if letter.isprintable() else " " for letter in finding.message)
    facts = {**asdict(finding), "message": message}
    return {"key": finding.key, **facts, "runbook": finding.runbook, "since": _iso(moment)}


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
