"""One process at a time trains a model on a period, and one that was declared dead writes nothing any more.

A claim is a lock on a file, which the kernel gives back when the process dies, however it dies. Beside it lie who
holds the claim, with a number that only grows, and the number up to which holders are asked to leave.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.storage import dump_json

PATIENCE = 60.0  # seconds that a process which was declared dead has to leave; it looks every few
POLL = 0.1
Over = Callable[[str], bool]
_held: dict[Path, IO[bytes]] = {}  # locks of this process


@dataclass(frozen=True)
class Claim:
    """The right to train and store one period of one model.

    Attributes:
        path: of the lock.
        what: the model and period, for people.
        token: larger than that of every earlier claim.
    """

    path: Path
    what: str
    token: int

    def check(self) -> None:
        """Refuse to go on for a process whose claim has passed to another.

        Raises:
            InputError: a newer run has taken over, or the lock's files are gone.
        """
        if _read(_owner(self.path)).get("token") != self.token or self.token <= _asked(self.path):
            raise InputError(
                f"{self.what}: another run has taken over from this process (pid {os.getpid()}), which Dagster counts "
                "as ended; nothing of it is stored"
            )


@contextmanager
def claimed(
    path: Path, *, what: str, run: str, is_over: Over = lambda _: False, patience: float = PATIENCE
) -> Iterator[Claim]:
    """Hold a claim; a process whose run is over is asked to leave and given `patience` seconds.

    Args:
        path: of the lock; kept afterwards, since its number must go on growing.
        run: id of the run that asks.
        is_over: whether a run has ended for whoever started it, though its process may go on.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        raise InputError(f"{path}: the lock of {what} cannot be opened: {error.strerror or error}") from None
    with lock:
        if not _try(lock):
            _wait(lock, path, what=what, is_over=is_over, patience=patience)
        token = max(_read(_owner(path)).get("token", 0) + 1, time.time_ns())
        holder = {"token": token, "pid": os.getpid(), "run": run, "since": datetime.now(UTC).isoformat()}
        write_atomic(_owner(path), dump_json(holder))
        _held[path] = lock
        try:
            yield Claim(path, what, token)
        finally:
            if _held.get(path) is lock:
                del _held[path]


def _wait(lock: IO[bytes], path: Path, *, what: str, is_over: Over, patience: float) -> None:
    """Wait for a holder that is over to leave.

    Raises:
        InputError: the holder is alive and well, or does not leave.
    """
    begin, asked = time.monotonic(), 0
    while not _try(lock):
        holder = _read(_owner(path))
        if holder and not is_over(str(holder["run"])):
            raise InputError(
                f"{what} is being trained by {_described(holder)}; wait until that has ended, or end it, and then "
                "materialise this again, which finds what is there by then"
            )
        if holder and asked < holder["token"]:
            asked = holder["token"]
            write_atomic(_leave(path), dump_json({"token": asked}))
            if holder["pid"] == os.getpid() and path in _held:
                _held[path].close()  # of a step that failed here, whose frames nobody has swept away yet
        if time.monotonic() - begin > patience:
            raise InputError(
                f"{what} is held by {_described(holder)}, which Dagster counts as ended and which has not left in "
                f"{patience:.0f} s; end that process and materialise this again"
            )
        time.sleep(POLL)


def _try(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _described(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"run {holder['run']} (pid {holder['pid']}) since {holder['since'][:19].replace('T', ' ')} UTC"


def _owner(path: Path) -> Path:
    return path.with_suffix(".owner.json")


def _leave(path: Path) -> Path:
    return path.with_suffix(".leave.json")


def _asked(path: Path) -> int:
    """The largest number whose holder is asked to leave."""
    return int(_read(_leave(path)).get("token", 0))


def _read(path: Path) -> dict[str, Any]:
    """A document of the claim; empty where there is none, or where it was spoiled by hand."""
    try:
        document = json.loads(path.read_bytes())
        return document if isinstance(document.get("token"), int) else {}
    except (OSError, ValueError, AttributeError):
        return {}
