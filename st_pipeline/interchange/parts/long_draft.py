"""Drafts of streams in our own layout: long tables of readings, a table of sensors, a table of edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import yaml

from st_pipeline.errors import InputError
from st_pipeline.fields import as_text
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array
from st_pipeline.interchange.parts.graphs import ALONE
from st_pipeline.scaffold import fitting_periods, quoted
from st_pipeline.storage import dump_frame

ROWS = 4_000_000  # of one table of readings, which bounds the memory
GIVEN_TIMES = "guessed: the clock of the timestamps"


@dataclass(frozen=True)
class Facts:
    """What the stream file says of a network.

    `variables` maps names to rules, the target first; `guessed` maps `step`, `start` or `timezone` to how it was
    guessed, which is left out where the archive says it. Times are labels on the clock of the time zone.
    """

    description: str
    variables: Mapping[str, Mapping[str, object]]
    first: datetime
    last: datetime
    step: timedelta
    timezone: str = "UTC"
    guessed: Mapping[str, str] = field(default_factory=lambda: {"timezone": GIVEN_TIMES})
    split: tuple[float, float, float] | None = None


def long_draft(
    facts: Facts,
    readings: Iterable[pl.DataFrame],
    *,
    sensors: pl.DataFrame | None = None,
    edges: pl.DataFrame | None = None,
    graph: str = ALONE,
) -> Draft:
    """A draft of tables.

    Args:
        readings: sensor_id, timestamp (naive, in milliseconds) and the variables; each becomes a file.
        sensors, edges: in our own columns.
        graph: the recipe, as the stream file has it.
    """
    if timedelta(days=1) % facts.step:
        raise InputError(
            f"the time between two readings is mostly {facts.step}; expected one that divides a day, "
            "such as 5min, 15min or 1h"
        )
    tables = {"sensors": sensors, "edges": edges}
    given = {name: table for name, table in tables.items() if table is not None}

    def files() -> Iterator[tuple[str, bytes]]:
        for name, table in given.items():
            yield f"{name}.parquet", dump_frame(table)
        for count, frame in enumerate(readings, 1):
            yield f"readings/{count:04d}.parquet", dump_frame(frame)

    names = ", ".join(f"{quoted(name)}: {quoted(name)}" for name in facts.variables)
    source = [
        "source:",
        "  format: parquet",
        "  readings: readings/*.parquet",
        *(f"  {name}: {name}.parquet" for name in given),
        f"  columns: {{{names}}}",
        "  interval: start  # guessed: a timestamp is the start of its interval; else end",
    ]
    return Draft((f"description: {quoted(facts.description)}", *source, *_lines(facts, graph)), files())


def _lines(facts: Facts, graph: str) -> list[str]:
    """Lines of the stream file behind its source."""
    noon = timedelta(hours=12)  # a day of which most is missing belongs to no period
    first, last = (facts.first + noon).date(), (facts.last + facts.step - noon).date()
    every, start, end = fitting_periods(first, max(first, last), facts.step)
    target = next(iter(facts.variables))

    def marked(what: str) -> str:
        return f"  # {facts.guessed[what]}" if what in facts.guessed else ""

    rules = [f"  {quoted(name)}: {_flow(rule)}{_rule_mark(rule)}" for name, rule in facts.variables.items()]
    shares = zip(("train", "validation", "test"), facts.split or (), strict=False)
    split = ", ".join(f"{name}: {share:g}" for name, share in shares)
    origin = f"; {facts.guessed['start']}" if "start" in facts.guessed else ""
    return [
        f"timezone: {facts.timezone}{marked('timezone')}",
        f"step: {as_text(facts.step)}{marked('step')}",
        f"periods: {{every: {every}, start: {start}, end: {end}}}  # guessed{origin}",
        f"target: {quoted(target)}  # guessed: the first of the variables",
        "variables:",
        *rules,
        f"graph: {graph}",
        *([f"split: {{{split}}}  # guessed: from the sizes of the archive's parts"] if split else []),
    ]


def _flow(rule: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(rule), default_flow_style=True, allow_unicode=True, width=10_000).strip()


def _rule_mark(rule: Mapping[str, object]) -> str:
    return "  # guessed" if rule.keys() - {"unit"} else ""


@dataclass(frozen=True, eq=False)
class Grid:
    """Regular readings: values (L, N, C), NaN where missing; times (L,) datetime64[ms], labels in order."""

    values: Array
    ids: tuple[str, ...]
    variables: tuple[str, ...]
    times: Array

    def frames(self) -> Iterator[pl.DataFrame]:
        """Long tables of a bounded number of rows, in order of time."""
        steps = max(1, ROWS // len(self.ids))
        names = pl.Series("sensor_id", self.ids, dtype=pl.Categorical())
        for first in range(0, len(self.times), steps):
            part = self.values[first : first + steps]
            length, count, _ = part.shape
            columns = {
                name: pl.Series(np.ascontiguousarray(part[:, :, place]).ravel()).fill_nan(None)
                for place, name in enumerate(self.variables)
            }
            times = pl.Series(self.times[first : first + length].astype("datetime64[ms]"))
            yield pl.DataFrame(
                {
                    "sensor_id": names.gather(np.tile(np.arange(count, dtype=np.uint32), length)),
                    "timestamp": times.gather(np.repeat(np.arange(length, dtype=np.uint32), count)),
                    **columns,
                }
            )


def regular_times(first: datetime, step: timedelta, count: int) -> Array:
    """(count,) datetime64[ms] labels."""
    start = np.datetime64(first, "ms")
    return np.asarray(start + np.arange(count) * np.timedelta64(step // timedelta(milliseconds=1), "ms"))


def step_of(times: Array, where: str) -> timedelta:
    """The most frequent time between two labels.

    Raises:
        InputError: there are less than two, or they do not increase.
    """
    gaps = np.diff(times.astype("datetime64[ms]").astype(np.int64))
    if not len(gaps):
        raise InputError(f"{where}: found one time, expected at least two")
    if (gaps <= 0).any():
        row = int(np.flatnonzero(gaps <= 0)[0]) + 1
        raise InputError(f"{where}: time {row + 1} is {times[row]}, not after {times[row - 1]}; expected rising times")
    sizes, counts = np.unique(gaps, return_counts=True)
    return timedelta(milliseconds=int(sizes[counts.argmax()]))


def as_datetime(label: np.datetime64) -> datetime:
    """A label as Python has it."""
    found = label.astype("datetime64[ms]").item()
    assert isinstance(found, datetime)
    return found
