"""What Dagster 1.13 keeps of runs in SQLite: one database a run, and an index of what assets and checks need.

Dagster's own deletion of a run takes its materialisations out of the index too, and what was made from them counts as
stale or missing from then on. Here is known which of those rows anything still asks for.
"""

from __future__ import annotations

import re
import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from dagster import AssetKey

INDEX = "index"
BUSY = 30.0  # seconds to wait for another process's writing
LIGHT = (  # what an old run keeps: when it and its steps began and how they ended, and what the checks found
    "PIPELINE_ENQUEUED",
    "PIPELINE_START",
    "PIPELINE_SUCCESS",
    "PIPELINE_FAILURE",
    "PIPELINE_CANCELED",
    "STEP_START",
    "STEP_SUCCESS",
    "STEP_FAILURE",
    "STEP_SKIPPED",
    "STEP_UP_FOR_RETRY",
    "STEP_RESTARTED",
    "ASSET_CHECK_EVALUATION",
)
FACTS = "('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')"
POINTER = re.compile(r'"dagster/input_event_pointer/([^"]+)": "(\d+)"')
HEAVY = f"dagster_event_type IS NULL OR dagster_event_type NOT IN ({', '.join('?' * len(LIGHT))})"


class Row(NamedTuple):
    """A materialisation or observation in the index."""

    id: int
    run: str
    asset: str
    partition: str | None
    timestamp: float
    bytes: int


@dataclass(frozen=True)
class EventLog:
    """The databases in `<instance>/history/runs`."""

    folder: Path

    def database(self, run: str) -> Path:
        return self.folder / f"{run}.db"

    def size(self, run: str) -> int:
        """Bytes of a run's database with what SQLite keeps beside it."""
        return sum(file.stat().st_size for file in self._files(run))

    def runs(self) -> list[str]:
        """Runs that have a database."""
        return sorted(file.stem for file in self.folder.glob("?*.db") if file.stem != INDEX)

    def remove(self, run: str) -> None:
        """Remove the database of a run that Dagster has forgotten."""
        for file in self._files(run):
            file.unlink(missing_ok=True)

    def _files(self, run: str) -> list[Path]:
        path = self.database(run)
        return [file for end in ("", "-wal", "-shm") if (file := path.with_name(path.name + end)).exists()]

    def superseded(self, before: float) -> list[Row]:
        """Records whose partition was written again before this time, and that no newer result refers to.

        Dagster calls a result stale if the record of an input that was the newest when the result was made has
        another content than today's: such a record is kept.
        """
        histories: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
        with reading(self.database(INDEX)) as index:
            query = "SELECT id, run_id, asset_key, partition, timestamp, length(event) FROM event_logs"
            found = index.execute(f"{query} WHERE dagster_event_type IN {FACTS} ORDER BY id")
            for number, run, asset, partition, time, size in found:
                histories[asset, partition].append(Row(number, run, asset, partition, _seconds(time), size))
            candidates = [
                (row, later)
                for history in histories.values()
                for row, later in pairwise(history)
                if later.timestamp < before
            ]
            if not candidates:
                return []
            pointers = _pointers(index, [history[-1].id for history in histories.values()])
        return [row for row, later in candidates if not _any_in(pointers[row.asset], row.id, later.id)]

    def holders(self, superseded: Collection[int]) -> set[str]:
        """Runs that the index still needs: of records, of what an asset or a check shows last, of the newest row."""
        with reading(self.database(INDEX)) as index:
            rows = index.execute(f"SELECT id, run_id FROM event_logs WHERE dagster_event_type IN {FACTS}").fetchall()
            held = {run for number, run in rows if number not in superseded}
            held |= {run for (run,) in index.execute("SELECT last_run_id FROM asset_keys")}
            newest = "SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name, partition"
            held |= {
                run for (run,) in index.execute(f"SELECT run_id FROM asset_check_executions WHERE id IN ({newest})")
            }
            held |= {run for (run,) in index.execute("SELECT run_id FROM event_logs ORDER BY id DESC LIMIT 1")}
        return held

    def heavy(self, run: str) -> int:
        """Bytes of a run's events that only its own page in the UI shows."""
        if not self.database(run).exists():
            return 0
        with reading(self.database(run), settled=True) as database:
            found = database.execute(f"SELECT sum(length(event)) FROM event_logs WHERE {HEAVY}", LIGHT).fetchone()[0]
        return int(found or 0)

    def lighten(self, run: str) -> None:
        """Remove those events, and give the space back."""
        with writing(self.database(run)) as database:
            database.execute(f"DELETE FROM event_logs WHERE {HEAVY}", LIGHT)
        compact(self.database(run))

    def forget(self, rows: Collection[Row]) -> None:
        """Remove records from the index."""
        ids = [(row.id,) for row in rows]
        with writing(self.database(INDEX)) as index:
            index.executemany("DELETE FROM asset_event_tags WHERE event_id = ?", ids)
            index.executemany("DELETE FROM event_logs WHERE id = ?", ids)


@contextmanager
def reading(database: Path, *, settled: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing; not even beside the database where it is settled: nobody writes it."""
    log = database.with_name(f"{database.name}-wal")
    mode = "immutable=1" if settled and not (log.exists() and log.stat().st_size) else "mode=ro"
    with closing(sqlite3.connect(f"{database.as_uri()}?{mode}", uri=True, timeout=BUSY)) as connection:
        yield connection


@contextmanager
def writing(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction."""
    with closing(sqlite3.connect(database, timeout=BUSY)) as connection, connection:
        yield connection


def compact(database: Path, *, patience: float = BUSY) -> None:
    """Give the file system back what deleted rows held.

    Raises:
        sqlite3.OperationalError: another process uses the database.
    """
    with closing(sqlite3.connect(database, timeout=patience, isolation_level=None)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _pointers(index: sqlite3.Connection, ids: list[int]) -> dict[str, list[int]]:
    """For each asset, in the index's spelling, the records up to which newest results have seen it, in order."""
    found: dict[str, set[int]] = defaultdict(set)
    for number in ids:
        (event,) = index.execute("SELECT event FROM event_logs WHERE id = ?", (number,)).fetchone()
        for asset, pointer in POINTER.findall(event):
            found[_spelled(asset)].add(int(pointer))
    return defaultdict(list, {asset: sorted(pointers) for asset, pointers in found.items()})


def _spelled(asset: str) -> str:
    return AssetKey.from_user_string(asset).to_string()


def _any_in(ordered: list[int], begin: int, end: int) -> bool:
    """Whether one of the ordered numbers is in [begin, end)."""
    place = bisect_left(ordered, begin)
    return place < len(ordered) and ordered[place] < end


def _seconds(stored: str | float) -> float:
    """Seconds since 1970 of a time as the index holds it."""
    if isinstance(stored, str):
        return datetime.fromisoformat(stored).replace(tzinfo=UTC).timestamp()
    return float(stored)
