"""Promote, roll back, shadow and freeze: what an action changes, and what a promotion must show first."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError, closest
from st_pipeline.evaluation.standing import Standing, standing
from st_pipeline.forecasting.serving import (
    Action,
    Event,
    Serving,
    lock_file,
    replay,
    served_before,
    store,
    stored_history,
)
from st_pipeline.storage import FRAME, lake

NAMES_MODEL = ("promote", "shadow", "unshadow")


@dataclass(frozen=True)
class Request:
    """An action with who asks for it and why; without an action the state alone is stored.

    Args:
        force: promote whatever the evidence says; needs a reason.
        require_drill: promote only with a robustness drill that is passed.
        run: the Dagster run; what it asked for is done once, however often it is retried.
    """

    action: str = ""
    model: str = ""
    by: str = ""
    reason: str = ""
    force: bool = False
    require_drill: bool = False
    run: str = ""


def act(config: StreamConfig, request: Request) -> tuple[Serving, bytes]:
    """Do what is asked for and store it; what is so already changes nothing. Returns the state and the stored bytes.

    Raises:
        InputError: the request cannot be met, or the stored history cannot be read; nothing is changed.
    """
    _check(config, request)
    with _locked(config):
        state = replay(config, stored_history(config))
        done = request.run and any(event.run == request.run for event in state.history)
        event = _event(config, state, request) if request.action and not done else None
        if event:
            state = replay(config, (*state.history, event))
        return state, store(config, state)


def eligible(config: StreamConfig) -> tuple[str, ...]:
    """Models that may serve: the file's champion with its `challengers`, or all `models` where none are named."""
    every = [model.name for model in config.models]
    return (config.shown_model, *config.challengers) if config.challengers else tuple(every)


def standing_of(config: StreamConfig, champion: str, model: str) -> Standing:
    """How a model stands against the champion, from their stored losses.

    Raises:
        InputError: the losses may not be compared.
    """
    frames = [_losses(config, name) for name in (champion, model)]
    return standing(frames[0], frames[1], names=(champion, model), day_steps=config.steps_per_day)


def _check(config: StreamConfig, request: Request) -> None:
    """Refuse what no state of the stream makes possible."""
    where = f"stream {config.name!r}"
    if not request.action:
        return
    if request.action not in get_args(Action):
        raise InputError(f"{where}: there is no action {request.action!r}; {closest(request.action, get_args(Action))}")
    if not config.models:
        raise InputError(f"{where} has no models; add some under `models` to its file")
    if request.action in NAMES_MODEL:
        config.model(request.model)
        if request.action != "unshadow" and request.model not in (names := eligible(config)):
            raise InputError(
                f"{where}: {request.model!r} is not among its challengers; {closest(request.model, names)}; name it "
                "under `challengers` in the stream file, if it is one of `models`"
            )
    elif request.model:
        raise InputError(f"{where}: {request.action} takes no model, found {request.model!r}")
    if request.force and not request.reason.strip():
        raise InputError(f"{where}: a forced promotion needs a reason (--reason TEXT)")


def _event(config: StreamConfig, state: Serving, request: Request) -> Event | None:
    """What is to be added to the history; None where all is so already."""
    model, evidence = request.model, {}
    if request.action == "promote":
        if model == state.champion:
            return None
        evidence = _evidence(config, state.champion, request)
    elif request.action == "rollback":
        model = _rollback_to(config, state)
    elif request.action in ("shadow", "unshadow"):
        if model == state.champion:
            raise InputError(f"stream {config.name!r}: {model!r} serves; a shadow is another model")
        if (model in state.shadows) == (request.action == "shadow"):
            return None
    elif state.frozen == (request.action == "freeze"):
        return None
    return Event(
        at=datetime.now(UTC),
        action=request.action,
        model=model or state.champion,
        before=state.champion,
        by=request.by or "not said",
        reason=request.reason.strip(),
        evidence=evidence,
        run=request.run,
    )


def _rollback_to(config: StreamConfig, state: Serving) -> str:
    before = served_before(state.history)
    where = f"stream {config.name!r}"
    if not before:
        raise InputError(f"{where}: there is no promotion to roll back; {state.champion} has served from the beginning")
    if before not in (known := [model.name for model in config.models]):
        raise InputError(
            f"{where}: {before!r}, which served before, is no longer in the stream file; promote another: "
            f"{', '.join(known)}"
        )
    return before


def _evidence(config: StreamConfig, champion: str, request: Request) -> dict[str, Any]:
    """What the promotion rests on.

    Raises:
        InputError: it is not enough, and the promotion is not forced.
    """
    refusals, evidence = [], dict[str, Any]()
    try:
        found = standing_of(config, champion, request.model)
        evidence["standing"] = found.document()
        refusals.append(found.refusal)
    except InputError as error:
        refusals.append(str(error))
    if request.require_drill:
        try:
            evidence["drill"], refusal = _drill(config, champion, request.model)
            refusals.append(refusal)
        except InputError as error:
            refusals.append(str(error))
    refusals = [sentence for sentence in refusals if sentence]
    if refusals and not request.force:
        raise InputError(
            f"stream {config.name!r}: {request.model} is not promoted: {'; and '.join(refusals)} "
            "(--force --reason TEXT promotes it nevertheless)"
        )
    return {**evidence, **({"forced_over": refusals} if refusals else {})}


def _drill(config: StreamConfig, champion: str, model: str) -> tuple[dict[str, Any], str]:
    """The verdict on the drill of the newest period that a model has learned.

    Raises:
        InputError: a drill of that period is not there.
    """
    from st_pipeline.evaluation.drill_verdict import drill_verdict

    learned = lake().periods((config.name, model, "backbone"), "safetensors")
    if not learned:
        raise InputError(f"{model} has learned no period; run `st-pipeline run {config.name} --models {model}` first")
    frames = []
    for name in (model, champion):
        key = (config.name, name, "drill")
        if not lake().exists(key, learned[-1], FRAME):
            raise InputError(
                f"{name} has no robustness drill of {learned[-1]}, the newest period that {model} has learned; "
                f"materialise {'/'.join(key)} of it (`st-pipeline run {config.name} --models {name}` does)"
            )
        frames.append(lake().read(key, learned[-1], FRAME))
    found = drill_verdict(frames[0], frames[1], names=(champion, model))
    return found.document(), found.refusal


def _losses(config: StreamConfig, model: str) -> dict[str, pl.DataFrame]:
    key = (config.name, model, "losses")
    return {period: lake().read(key, period, FRAME) for period in lake().periods(key, FRAME.extension)}


@contextmanager
def _locked(config: StreamConfig) -> Iterator[None]:
    """One process at a time reads and writes the document; the kernel gives the lock back when a process dies."""
    path = lock_file(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror or error}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
