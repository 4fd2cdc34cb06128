"""The Dagster instance of a home: persistent, without telemetry, with pools and run monitoring."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.storage import home

TEMPLATE = Path(__file__).with_name("dagster.yaml")
LOCK = ".opening.lock"
DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def instance_folder() -> Path:
    """`<home>/dagster`, with its `dagster.yaml`, made on first use.

    Raises:
        InputError: the home cannot be written.
    """
    folder = home() / "dagster"
    if not (folder / "dagster.yaml").exists():
        write_atomic(folder / "dagster.yaml", TEMPLATE.read_bytes())
    return folder


def open_instance() -> dg.DagsterInstance:
    """The instance; processes started from here find it by `DAGSTER_HOME`.

    Raises:
        InputError: the home cannot be written, or its `dagster.yaml` or databases cannot be used.
    """
    folder = instance_folder()
    os.environ["DAGSTER_HOME"] = str(folder)
    with _alone(folder):
        try:
            return dg.DagsterInstance.get()
        except Exception as error:  # Dagster reports a bad dagster.yaml in many ways
            reason = _reason(error)
    if "OperationalError" in reason and "psycopg2" not in reason:
        raise _closed(folder, reason)
    raise InputError(f"{folder / 'dagster.yaml'}: the Dagster instance cannot be opened: {reason}")


def _reason(error: Exception) -> str:
    """The line that says it: where a setting comes from the environment and is not there, that is not the first."""
    lines = str(error).strip().splitlines()
    return next((line.strip() for line in lines if "environment variable" in line), lines[0])


def make_instance() -> Path:
    """`<home>/dagster` with its databases, made on first use.

    Raises:
        InputError: as `open_instance`.
    """
    if not all((instance_folder() / name).exists() for name in DATABASES):
        open_instance().dispose()
    return instance_folder()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: two that made Dagster's databases at once would leave them of two versions."""
    try:
        lock = (folder / LOCK).open("ab")
    except OSError as error:
        raise _closed(folder, error.strerror or str(error)) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _closed(folder: Path, reason: str) -> InputError:
    return InputError(
        f"{folder}: the databases cannot be opened: {reason}; the disk is full or read-only: "
        "make room, or mount it for writing"
    )
