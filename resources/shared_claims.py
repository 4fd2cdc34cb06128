"""One machine at a time trains a model on a period, where Dagster's records lie in Postgres.

A claim is an advisory lock of Postgres, which the server gives back when the connection ends, however it ends. Beside
it lie, in Dagster's own table of keys and values, who holds it, and the number up to which holders are asked to leave.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import dagster as dg

from resources.executors import BROKER
from st_pipeline.errors import InputError

PATIENCE = 120.0  # seconds that a holder which was declared dead has to leave; a dead machine is noticed in 40
POLL = 0.5
ALIVE = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4"  # seconds, of the server
Over = Callable[[str], bool]
Check = Callable[[], object]


def claimed_for_all(
    instance: dg.DagsterInstance, *, what: str, run: str, is_over: Over, patience: float = PATIENCE
) -> AbstractContextManager[Check]:
    """Hold the claim of a model's period against other machines; the value raises once it is lost.

    Nothing is held where records lie in SQLite: there is one machine.

    Raises:
        InputError: another machine holds it, or workers are used without Postgres.
    """
    url = getattr(instance.run_storage, "postgres_url", None)
    if url:
        return _held(Records(instance, what), url, run=run, is_over=is_over, patience=patience)
    if os.environ.get(BROKER):
        raise InputError(
            f"{what}: {BROKER} is set, so several machines may train it, and Dagster's records lie in SQLite, which "
            "one machine has; put them into Postgres (deploy/dagster.yaml)"
        )
    return nullcontext(bool)


@dataclass(frozen=True)
class Records:
    """What is known of a claim.

    Attributes:
        what: the model and period, for people.
    """

    instance: dg.DagsterInstance
    what: str

    @property
    def number(self) -> int:
        """Of the lock."""
        return int.from_bytes(blake2b(f"st_pipeline {self.what}".encode(), digest_size=8).digest(), "big", signed=True)

    def holder(self) -> dict[str, Any]:
        """Who holds the claim, or held it last; empty if nobody ever did."""
        found: dict[str, Any] = json.loads(self.read("holder") or "{}")
        return found

    def asked(self) -> int:
        """The largest number whose holder is asked to leave."""
        return int(self.read("leave") or 0)

    def read(self, name: str) -> str | None:
        key = f"st_pipeline/{name}/{self.what}"
        return self.instance.daemon_cursor_storage.get_cursor_values({key}).get(key)

    def write(self, name: str, value: str) -> None:
        self.instance.daemon_cursor_storage.set_cursor_values({f"st_pipeline/{name}/{self.what}": value})


@contextmanager
def _held(records: Records, url: str, *, run: str, is_over: Over, patience: float) -> Iterator[Check]:
    import psycopg2

    with _answering(records.what):
        connection = psycopg2.connect(url, options=ALIVE, connect_timeout=30)
    with closing(connection):
        connection.autocommit = True
        _wait(connection, records, is_over=is_over, patience=patience)
        token = max(records.holder().get("token", 0) + 1, time.time_ns())
        own = {"token": token, "host": socket.gethostname(), "pid": os.getpid(), "run": run}
        records.write("holder", json.dumps({**own, "since": datetime.now(UTC).isoformat()}))
        yield lambda: _check(connection, records, token)


def _check(connection: Any, records: Records, token: int) -> None:
    """
    Raises:
        InputError: the lock is gone with its connection, or a newer run has taken over.
    """
    with _answering(records.what), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if records.holder().get("token") != token or token <= records.asked():
        raise InputError(
            f"{records.what}: another run has taken over from this process (pid {os.getpid()} on "
            f"{socket.gethostname()}), which Dagster counts as ended; nothing of it is stored"
        )


def _wait(connection: Any, records: Records, *, is_over: Over, patience: float) -> None:
    """Take the lock; wait for a holder whose run is over to leave.

    Raises:
        InputError: the holder is alive and well, or does not leave.
    """
    begin, asked = time.monotonic(), 0
    while not _try(connection, records):
        holder = records.holder()
        if holder and not is_over(str(holder["run"])):
            raise InputError(
                f"{records.what} is being trained by {_described(holder)}; wait until that has ended, or end it, and "
                "then materialise this again, which finds what is there by then"
            )
        if holder and asked < holder["token"]:
            asked = holder["token"]
            records.write("leave", str(asked))
        if time.monotonic() - begin > patience:
            raise InputError(
                f"{records.what} is held by {_described(holder)}, which Dagster counts as ended and which has not left "
                f"in {patience:.0f} s; end that process and materialise this again"
            )
        time.sleep(POLL)


def _try(connection: Any, records: Records) -> bool:
    with _answering(records.what), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (records.number,))
        return bool(cursor.fetchone()[0])


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """
    Raises:
        InputError: the database does not answer; its message has no password in it.
    """
    import psycopg2

    try:
        yield
    except psycopg2.Error as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{what}: the claim cannot be held, since Postgres does not answer: {reason}; nothing of this process is "
            "stored; materialise it again when the database is back"
        ) from None


def _described(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    since = holder["since"][:19].replace("T", " ")
    return f"run {holder['run']} (pid {holder['pid']} on {holder['host']}) since {since} UTC"
