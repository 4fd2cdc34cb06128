"""Which model serves: the stream file's champion until one is promoted, with everything done since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError
from st_pipeline.fields import Part
from st_pipeline.model_config import ModelConfig
from st_pipeline.storage import JSON, dump_json, home, lake

ASSET = "champion"
Action = Literal["promote", "rollback", "shadow", "unshadow", "freeze", "unfreeze"]


class Event(Part):
    """One action: `model` is the one it is about, for a rollback the one that serves again; `before` served before."""

    at: datetime
    action: Action
    model: str
    before: str
    by: str
    reason: str = ""
    evidence: dict[str, Any] = {}
    run: str = ""

    def row(self) -> dict[str, str]:
        """What people read: when, action, model, before, by, reason, evidence."""
        told = {name: getattr(self, name) for name in ("action", "model", "before", "by", "reason")}
        return {"when": self.at.strftime("%Y-%m-%d %H:%M UTC"), **told, "evidence": _told(self.evidence)}


class Document(Part):
    """What is stored: the history decides, the rest is said for readers."""

    champion: str
    shadows: tuple[str, ...]
    frozen: bool
    history: tuple[Event, ...]


@dataclass(frozen=True)
class Serving:
    """Who serves, who forecasts beside, whether training is to stop; `note` tells why it is not whom history says."""

    champion: str
    shadows: tuple[str, ...] = ()
    frozen: bool = False
    history: tuple[Event, ...] = ()
    note: str = ""


def serving(config: StreamConfig) -> Serving:
    """The state of a stream's serving, from the lake.

    Raises:
        InputError: the document is damaged, or was there and is gone.
    """
    return replay(config, stored_history(config))


def serving_model(config: StreamConfig) -> ModelConfig:
    """The model that serves.

    Raises:
        InputError: the stream has no model, or as `serving`.
    """
    found = serving(config).champion
    if not found:
        raise InputError(f"stream {config.name!r} has no model; add one under `models` to its file")
    return config.model(found)


def chosen_model(config: StreamConfig, name: str | None) -> ModelConfig:
    """The model of that name, by default the one that serves.

    Raises:
        InputError: the stream has none, or as `serving`.
    """
    return config.model(name) if name else serving_model(config)


def why_frozen(config: StreamConfig) -> str | None:
    """Why nothing is to be learned at present; None where learning goes on.

    Raises:
        InputError: the stored history is damaged.
    """
    found = serving(config)
    if not found.frozen:
        return None
    last = next(event for event in reversed(found.history) if event.action == "freeze").row()
    reason = f": {last['reason']}" if last["reason"] else ""
    return (
        f"{config.name} is frozen by {last['by']} since {last['when']}{reason}; {found.champion} serves on, "
        f"`st-pipeline unfreeze {config.name}` lets it learn again"
    )


def _told(evidence: dict[str, Any]) -> str:
    """Evidence in a few words."""
    tested = (evidence.get("standing") or {}).get("tested")
    drill = evidence.get("drill")
    parts = [
        *(
            ["error {relative:+.2f} % ({relative_low:+.2f} to {relative_high:+.2f}), p {p_holm:.2g}".format(**tested)]
            if tested
            else []
        ),
        *(["drill loses {loss:.1f} points, the champion's {champion_loss:.1f}".format(**drill)] if drill else []),
        *(f"forced over: {sentence}" for sentence in evidence.get("forced_over", ())),
    ]
    return "; ".join(parts)


def replay(config: StreamConfig, history: Sequence[Event]) -> Serving:
    """What the actions come to; a model that the stream file no longer has gives way to the file's champion."""
    champion, shadows, frozen = config.shown_model, dict[str, None](), False
    for event in history:
        if event.action in ("promote", "rollback"):
            champion = event.model
        elif event.action in ("shadow", "unshadow"):
            shadows |= {event.model: None}
        if event.action in ("promote", "unshadow"):
            shadows.pop(event.model, None)
        frozen = event.action == "freeze" or (frozen and event.action != "unfreeze")
    known = {model.name for model in config.models}
    note = ""
    if champion and champion not in known:
        note = f"{champion} was promoted and is no longer in the stream file; {config.shown_model} of the file serves"
        champion = config.shown_model
    beside = tuple(name for name in shadows if name in known and name != champion)
    return Serving(champion, beside, frozen, tuple(history), note)


def served_before(history: Sequence[Event]) -> str:
    """The model that a rollback brings back; empty where every promotion has been rolled back."""
    pile: list[str] = []
    for event in history:
        if event.action == "promote":
            pile.append(event.before)
        elif event.action == "rollback":
            pile.pop()
    return pile[-1] if pile else ""


def stored_history(config: StreamConfig) -> tuple[Event, ...]:
    """The actions so far, oldest first; none where nothing was ever stored.

    Raises:
        InputError: the document is damaged, or was there and is gone.
    """
    path = lake().path((config.name, ASSET), None, JSON.extension)
    try:
        return Document.model_validate_json(lake().payload((config.name, ASSET), None, JSON)).history
    except FileNotFoundError:
        marker = lock_file(config)
        if marker.exists() and marker.stat().st_size:
            raise InputError(
                f"{path}: the history of the champion is gone, although it was stored before; restore a backup, "
                f"or remove {marker} to begin anew with the champion of the stream file"
            ) from None
        return ()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: is no history of the champion ({f'{where}: ' if where else ''}{first['msg'][:200]}); nothing was "
            "changed: restore it from a backup"
        ) from None


def store(config: StreamConfig, found: Serving) -> bytes:
    """Write the document, and remember beside it that there is one; returns its bytes."""
    document = Document(champion=found.champion, shadows=found.shadows, frozen=found.frozen, history=found.history)
    payload = dump_json(document.model_dump(mode="json"))
    lake().write((config.name, ASSET), None, JSON, payload)
    marker = lock_file(config)
    if not marker.stat().st_size:
        marker.write_bytes(b"stored\n")
    return payload


def lock_file(config: StreamConfig) -> Path:
    """The lock of the document, which holds something once a document was stored; of this machine if the lake is not.

    Beside a document in an object store nothing can be locked.
    """
    path = lake().path((config.name, ASSET), None, JSON.extension)
    folder = path.parent if isinstance(path, Path) else home() / "locks" / config.name
    return folder / f".{ASSET}.lock"
