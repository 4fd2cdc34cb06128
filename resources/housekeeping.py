"""Housekeeping of a home: what has been kept for long enough, and what nothing reads any more.

Raw files, results, forecasts and the newest record of every asset's partition are never touched.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.tags import BACKFILL_ID_TAG

from resources.event_log import INDEX, EventLog, compact
from resources.launcher import BEGUN, death_of
from st_pipeline.errors import InputError
from st_pipeline.files import ABANDONED
from st_pipeline.storage import home, lake

DAY = 86400.0
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
BEATING = 120.0  # seconds after which a daemon that has said nothing is gone
KINDS = {
    "runs": "runs with their logs, of which nothing is the newest",
    "logs of runs": "logs of older runs whose results are the newest",
    "records": "records of results that were made again since",
    "compute logs": "what steps printed",
    "orphans": "logs of runs that were deleted",
    "training states": "states of trainings whose results are stored, or that nobody has gone on with",
    "temporary files": "what killed writers left",
}


@dataclass(frozen=True)
class Limits:
    """Days that things are kept: runs and their logs, what steps printed, states of trainings that never ended."""

    runs: float = 30.0
    logs: float = 14.0
    states: float = 30.0

    @classmethod
    def from_environment(cls) -> Self:
        """From `ST_PIPELINE_KEEP_RUNS`, `_KEEP_LOGS` and `_KEEP_STATES`, in days.

        Raises:
            InputError: one is not a number of days.
        """
        return cls(
            **{field.name: _days(f"ST_PIPELINE_KEEP_{field.name.upper()}", field.default) for field in fields(cls)}
        )


def _days(name: str, default: Any) -> float:
    text = os.environ.get(name)
    try:
        days = float(text) if text else float(default)
    except ValueError:
        days = -1
    if not 0 <= days < 36500:
        raise InputError(f"{name} is {text!r}; expected a number of days, e.g. {default:g}")
    return days


@dataclass(frozen=True)
class Item:
    """Something that can go: its kind, its name, about how many bytes, and how it goes."""

    kind: str
    name: str
    bytes: int
    remove: Callable[[], object]


def plan(instance: dg.DagsterInstance | None, limits: Limits, *, now: float | None = None) -> list[Item]:
    """Everything that can go from the home; nothing is changed.

    Raises:
        InputError: the instance does not keep its events in SQLite, or its databases cannot be read.
    """
    at = time.time() if now is None else now
    items: list[Item] = []
    try:
        if instance is not None:
            items += _of_instance(instance, limits, at)
    except sqlite3.Error as error:
        raise InputError(f"{home() / 'dagster'}: the instance's databases cannot be read: {error}") from None
    return [*items, *_training_states(limits, at), *_temporary_files(at)]


def tidy(items: list[Item]) -> None:
    """Let the items go.

    Raises:
        InputError: the home cannot be written.
    """
    for item in items:
        try:
            item.remove()
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{item.kind}: {item.name} cannot be removed: {error}; nothing else is harmed") from None


def summary(items: list[Item]) -> list[dict[str, Any]]:
    """A row for every kind: what it is, how many, bytes."""
    rows = []
    for kind, meaning in KINDS.items():
        own = [item for item in items if item.kind == kind]
        rows.append({"kind": kind, "what": meaning, "count": len(own), "bytes": sum(item.bytes for item in own)})
    return rows


def in_use(instance: dg.DagsterInstance, *, now: float | None = None) -> str | None:
    """Who works with the instance: a daemon that still says so, or a run; None if nobody."""
    at = time.time() if now is None else now
    for heartbeat in instance.get_daemon_heartbeats().values():
        if at - heartbeat.timestamp < BEATING:
            return "a server is running"
    for run in instance.get_runs(dg.RunsFilter(statuses=BEGUN)):
        if death_of(instance, run) is None:
            return f"run {run.run_id} goes on"
    return None


def compact_instance(instance: dg.DagsterInstance) -> str | None:
    """Give the file system back what deleted rows of the shared databases held; the reason where it is not done."""
    if reason := in_use(instance):
        return reason
    folder = home() / "dagster"
    for database in (folder / "history/runs/index.db", folder / "history/runs.db", folder / "schedules/schedules.db"):
        try:
            if database.exists():
                compact(database, patience=5.0)
        except sqlite3.OperationalError as error:
            return f"{database}: {error}"
    return None


def _of_instance(instance: dg.DagsterInstance, limits: Limits, now: float) -> Iterator[Item]:
    log = EventLog(home() / "dagster" / "history" / "runs")
    if not log.database(INDEX).exists():
        raise InputError(f"{log.folder}: Dagster's events are not there; only SQLite under the home is kept tidy")
    before = now - limits.runs * DAY
    superseded = log.superseded(before)
    held = log.holders({row.id for row in superseded})
    old = dg.RunsFilter(statuses=ENDED, updated_before=datetime.fromtimestamp(before, UTC))
    gone, ids = {run.run_id for run in instance.get_runs(dg.RunsFilter())}, set()
    for run in instance.get_runs(old):
        ids.add(run.run_id)
        if run.run_id not in held and not _in_backfill(instance, run):
            yield Item("runs", run.run_id, log.size(run.run_id), partial(_remove_run, instance, log, run.run_id))
        elif size := log.heavy(run.run_id):
            yield Item("logs of runs", run.run_id, size, partial(log.lighten, run.run_id))
    if rows := [row for row in superseded if row.run in held & ids]:
        for row in rows:
            name = f"{row.asset} of {row.partition}"
            yield Item("records", name, row.bytes, partial(log.forget, [row]))
    yield from _orphans(log, known=gone, before=before)
    yield from _compute_logs(instance, now - limits.logs * DAY)


def _in_backfill(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a backfill that goes on counts on the run."""
    name = run.tags.get(BACKFILL_ID_TAG)
    backfill = instance.get_backfill(name) if name else None
    return backfill is not None and backfill.status not in BULK_ACTION_TERMINAL_STATUSES


def _remove_run(instance: dg.DagsterInstance, log: EventLog, run: str) -> None:
    instance.delete_run(run)
    log.remove(run)


def _orphans(log: EventLog, *, known: set[str], before: float) -> Iterator[Item]:
    """Databases of runs that Dagster has forgotten: its deletion empties them and lets them lie."""
    for run in log.runs():
        if run not in known and log.database(run).stat().st_mtime < before:
            yield Item("orphans", run, log.size(run), partial(log.remove, run))


def _compute_logs(instance: dg.DagsterInstance, before: float) -> Iterator[Item]:
    root = Path(instance.storage_directory())
    going = {run.run_id for run in instance.get_runs(dg.RunsFilter()) if not run.is_finished}
    for folder in sorted(root.glob("*/compute_logs")):
        newest, size = _measure(folder)
        if folder.parent.name not in going and newest < before:
            yield Item("compute logs", folder.parent.name, size, partial(shutil.rmtree, folder.parent))


def _training_states(limits: Limits, now: float) -> Iterator[Item]:
    root = home() / "resume"
    for folder in sorted(path for path in root.glob("*/*/*") if path.is_dir()):
        stream, model, period = folder.relative_to(root).parts
        newest, size = _measure(folder)
        if now - newest > limits.states * DAY or _stored_at(stream, model, period) > newest:
            yield Item("training states", f"{stream}/{model} of {period}", size, partial(_remove_states, folder))


def _stored_at(stream: str, model: str, period: str) -> float:
    """When the newest part of a model's period was stored; 0 if none is."""
    found = lake().files.below(lake().root / stream / model)
    return max((at / 1e9 for name, (_, at) in found.items() if name.endswith(f"/{period}.safetensors")), default=0.0)


def _remove_states(folder: Path) -> None:
    """Remove states unless somebody is training on them."""
    from st_pipeline.training.claims import claimed

    with suppress(InputError), claimed(folder.with_name(f"{folder.name}.lock"), what=folder.name, run=""):
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_files(now: float) -> Iterator[Item]:
    for file in sorted(home().rglob(".*.tmp")):
        with suppress(FileNotFoundError):  # its writer may have ended well meanwhile
            found = file.lstat()
            if now - found.st_mtime > ABANDONED and not file.is_dir():
                name = str(file.relative_to(home()))
                yield Item("temporary files", name, found.st_size, partial(file.unlink, missing_ok=True))


def _measure(folder: Path) -> tuple[float, int]:
    """When something in a folder was last written, and the bytes of its files."""
    found = [path.stat() for path in (folder, *folder.rglob("*"))]
    return max(one.st_mtime for one in found), sum(one.st_size for one in found[1:])
