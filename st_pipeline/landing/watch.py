"""Watching the raw files of one stream: a state that outlives restarts, and the step from one look to the next."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from st_pipeline.data.inventory import facts
from st_pipeline.errors import InputError
from st_pipeline.landing.files import Stat, in_the_writing, look, stats
from st_pipeline.landing.periods import differs, known_periods, landed_from, recorded_files
from st_pipeline.readers.base import Reader
from st_pipeline.storage import FRAME, HTML, Lake
from st_pipeline.streams import Stream

AGAIN = 600.0  # seconds after which a file that could not be read is tried again, even if it looks the same
BUDGET = 20.0  # seconds that one look may spend on reading


@dataclass(frozen=True)
class Watch:
    """What is known of a stream's raw files, and what is to be done about it.

    Attributes:
        seen: the last look, label -> (bytes, time of change).
        known: files taken account of, label -> (bytes, time of change, digest).
        examine: periods that a changed file touches, to be compared with what was landed.
        changed: periods whose rows differ; `pending`: these and the periods after them, in order.
        deferred: changed periods that are too old to be made anew by themselves, and when they were landed.
        edition: when `pending` was last made; runs asked for are told apart by it.
        facts: a table of sensors or edges changed, which nothing was done about yet.
        fault: why the files cannot be read, and `fault_at` since when.
    """

    seen: dict[str, Stat] = field(default_factory=dict)
    known: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    examine: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    deferred: dict[str, int] = field(default_factory=dict)
    edition: str = ""
    facts: bool = False
    fault: str = ""
    fault_at: float = 0.0

    @classmethod
    def load(cls, cursor: str | None) -> Self:
        """The state in a cursor; an empty one if there is none, or it is of another form."""
        try:
            document = json.loads(cursor or "{}")
            tables = {name: {label: tuple(row) for label, row in document[name].items()} for name in ("seen", "known")}
            lists = {name: tuple(document[name]) for name in ("examine", "changed", "pending")}
            return cls(**{**document, **tables, **lists})
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def dump(self) -> str:
        return json.dumps(asdict(self))

    def done(self, period: str) -> Self:
        """The state when a period is up to date."""
        changed = tuple(key for key in self.changed if key != period)
        return replace(self, changed=changed, pending=tuple(key for key in self.pending if key != period))


def look_again(
    stream: Stream, reader: Reader, lake: Lake, watch: Watch, *, now: float | None = None, budget: float = BUDGET
) -> tuple[Watch, str]:
    """The state after another look, and what keeps the stream waiting (empty if nothing does).

    A file counts once two looks found it alike. Only files whose size or time of change is new are read.
    """
    moment, deadline = now or time.time(), time.monotonic() + budget
    try:
        files = look(reader)
        found = stats(files)
        growing = in_the_writing(found, watch.seen, found)
        if watch.fault and not growing and moment - watch.fault_at < AGAIN:
            return watch, watch.fault
        watch = replace(watch, seen=found, fault="")
        if growing:
            return watch, f"waits until {_shown(growing)} has not changed between two looks"
        watch = _with_deferred(watch, lake, stream.name)
        watch = _take_account(stream, reader, lake, watch, files, deadline)
        if any(watch.known.get(label, ())[:2] != state for label, state in found.items()):
            return watch, "still reading new files"
        watch = _compare(stream, reader, lake, watch, moment, deadline)
        return watch, "still comparing periods" if watch.examine else ""
    except InputError as error:
        return replace(watch, fault=str(error), fault_at=moment), str(error)


def _take_account(
    stream: Stream, reader: Reader, lake: Lake, watch: Watch, files: Mapping[str, Path], deadline: float
) -> Watch:
    """Digest what looks new, and note the periods that new content touches."""
    known, examine, touched = dict(watch.known), set(watch.examine), False
    recorded = set() if known else recorded_files(lake, stream.name)
    gone = [label for label in known if label not in files]
    for label in gone:
        del known[label]
    periods, other = known_periods(stream.config.calendar), list(gone)
    for label, file in files.items():
        state = watch.seen[label]
        before = known.get(label)
        if (before and before[:2] == state) or time.monotonic() > deadline:
            continue
        _, code = facts(file)
        if not (before and before[2] == code) and (file.name, code) not in recorded:
            keys = reader.periods_of(file, periods)
            touched |= keys is None
            examine |= set(keys or ())
            other.append(label)
        known[label] = (*state, code)
    if recorded and not watch.known:  # files that the recorded inventory has and the folder has not
        other += sorted({name for name, _ in recorded} - {file.name for file in files.values()})
    examine |= set(landed_from(lake, stream.name, other)) if other else set()
    return replace(watch, known=known, examine=tuple(sorted(examine)), facts=watch.facts or touched)


def _compare(stream: Stream, reader: Reader, lake: Lake, watch: Watch, moment: float, deadline: float) -> Watch:
    """Compare periods with what was landed, and put those that differ in line."""
    there = {key.key: key for key in known_periods(stream.config.calendar, datetime.fromtimestamp(moment, UTC))}
    examine, changed = list(watch.examine), set()
    deferred = {key: at for key, at in watch.deferred.items() if key not in examine}
    while examine and time.monotonic() <= deadline:
        key = examine.pop(0)
        if key in there and differs(stream, reader, lake, there[key]):
            changed.add(key)
    finished, oldest = _finished(stream, lake), _oldest_to_redo(stream, lake)
    taken = {key for key in changed if key >= oldest}
    deferred |= {key: _landed_at(lake, stream.name, key) for key in changed - taken}
    watch = replace(watch, examine=tuple(examine), deferred=deferred)
    begin = min(taken, default="")
    if watch.facts and not examine:
        watch = replace(watch, facts=False)
        begin = min({begin, *(key for key in finished if key >= oldest or key == finished[-1])} - {""}, default="")
    return _in_line(watch, taken, begin, lake.periods((stream.name, "raw_readings"), FRAME.extension))


def _with_deferred(watch: Watch, lake: Lake, stream: str) -> Watch:
    """With deferred periods that somebody landed since in line for a comparison."""
    moved = {key for key, at in watch.deferred.items() if _landed_at(lake, stream, key) != at}
    return replace(watch, examine=tuple(sorted({*watch.examine, *moved})))


def _landed_at(lake: Lake, stream: str, period: str) -> int:
    found = lake.stat((stream, "raw_readings"), period, FRAME)
    return found[1] if found else 0


def _in_line(watch: Watch, changed: set[str], begin: str, landed: list[str]) -> Watch:
    """With changed periods and all that follow the first one in line, under a new edition."""
    if not begin:
        return watch
    pending = {*watch.pending, *changed, *(key for key in landed if key >= begin)}
    return replace(
        watch,
        changed=tuple(sorted({*watch.changed, *changed})),
        pending=tuple(sorted(pending)),
        edition=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def _finished(stream: Stream, lake: Lake) -> list[str]:
    return lake.periods((stream.name, "report"), HTML.extension)


def _oldest_to_redo(stream: Stream, lake: Lake) -> str:
    """The oldest period that is made anew by itself; those before it wait for `st-pipeline run`."""
    finished, most = _finished(stream, lake), stream.config.automation.corrections
    if not finished:
        return ""
    return finished[-most] if 0 < most <= len(finished) else finished[0] if most else finished[-1] + "~"


def _shown(labels: list[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
