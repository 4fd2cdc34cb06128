"""What is stale and why, partition by partition, and what each way to deal with it would cost; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

import dagster as dg
from dagster._core.definitions.events import AssetKeyPartitionKey

from resources.lake import lake
from resources.stages import LANDED, needed
from resources.staleness import Staleness
from st_pipeline.landing.periods import changed_files, differs, known_periods, landed_from, recorded_files, row_changes
from st_pipeline.readers.base import Reader
from st_pipeline.streams import Stream

Place = tuple[dg.AssetKey, str | None]


@dataclass(frozen=True)
class Changes:
    """How the raw files differ from what was landed.

    Attributes:
        files: new or changed ones; `gone`: names of the inventory that are gone or differ.
        rows: period -> rows that came and went; a period whose rows only lie elsewhere has zeros.
        facts: a table of sensors or edges changed.
    """

    files: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    facts: bool = False


def find_changes(stream: Stream, reader: Reader) -> Changes:
    """Compare the raw files with the inventory and with what was landed.

    Raises:
        InputError: a raw file cannot be read.
    """
    recorded, periods = recorded_files(lake(), stream.name), known_periods(stream.config.calendar)
    new, gone = changed_files(reader, recorded)
    touched, facts = set(landed_from(lake(), stream.name, [*gone, *(file.name for file in new)])), False
    for file in new:
        keys = reader.periods_of(file, periods)
        facts |= keys is None
        touched |= set(keys or ())
    rows = {
        period.key: row_changes(reader, lake(), stream.name, period)
        for period in periods
        if period.key in touched and differs(stream, reader, lake(), period)
    }
    return Changes([reader.context.label(file) for file in new], gone, rows, facts)


class Plan:
    """Stale partitions of a stream, with reasons and recorded seconds.

    Args:
        graph: of all assets.
        periods: keys that exist, in order.
    """

    def __init__(self, stream: Stream, instance: dg.DagsterInstance, graph: Any, changes: Changes) -> None:
        self.stream, self.instance, self.graph, self.changes = stream, instance, graph, changes
        own = [key for key in graph.toposorted_asset_keys if key.path[0] == stream.name]
        self.keys = [key for key in own if graph.get(key).group_name == stream.name]
        there = [period.key for period in stream.config.calendar.periods()]
        landed = lake().periods((stream.name, LANDED[0]), "parquet")
        self.periods = [key for key in there if key in landed or key in changes.rows]
        self._steps: dict[str, dict[str, float]] = {}

    @cached_property
    def stale(self) -> dict[Place, str]:
        """Every partition that is behind, with the reason, periods in order."""
        sources = frozenset(key for key in self.keys if key.path[1] == "raw_files")
        self._resolver = Staleness(self.instance, self.graph, self.periods, sources)
        found: dict[Place, str] = {}
        single = [key for key in self.keys if not self.graph.get(key).is_partitioned]
        first = [key for key in single if key.path[1] in ("raw_files", "sensors")]
        for key in first:
            self._note(found, key, None)
        for period in self.periods:
            for key in self.keys:
                if self.graph.get(key).is_partitioned:
                    self._note(found, key, period)
        for key in single:
            if key not in first and found:
                found[key, None] = f"shows {len(found)} partitions that are behind"
        return found

    def _note(self, found: dict[Place, str], key: dg.AssetKey, period: str | None) -> None:
        if reason := self._landed(key, period) or self._own(key, period) or self._inherited(found, key, period):
            found[key, period] = reason

    def _landed(self, key: dg.AssetKey, period: str | None) -> str:
        """The reason of what is read from raw files."""
        name, changes = key.path[1], self.changes
        if name == "raw_files" and (changes.files or changes.gone):
            return f"files differ from the inventory: {_few([*changes.files, *changes.gone])}"
        if name in ("sensors", "edges") and changes.facts:
            return "a table of sensors or edges changed"
        if name == LANDED[0] and period in changes.rows:
            return "{came} rows came and {went} went".format(**changes.rows[period])
        return ""

    def _own(self, key: dg.AssetKey, period: str | None) -> str:
        """The reason that Dagster has: never made, code or configuration, newer inputs."""
        record = self._resolver._get_latest_data_version_record(AssetKeyPartitionKey(key, period))
        if record is None:
            return "was never made"
        causes = self._resolver.get_stale_causes(key, period)
        if not causes:
            return ""
        cause = causes[0]
        about = f" ({'/'.join(cause.dependency.asset_key.path)})" if cause.dependency else ""
        return f"{cause.reason}{about}"

    def _inherited(self, found: Mapping[Place, str], key: dg.AssetKey, period: str | None) -> str:
        """The first stale thing that it needs."""
        for parent in sorted(self.graph.get(key).parent_keys):
            for moment in needed(self.graph, key, parent, period):
                if (parent, moment) in found and parent.path[1] != "raw_files":
                    return f"needs {'/'.join(parent.path[1:])}" + (f" of {moment}" if moment else "")
        return ""

    def seconds(self, places: Iterable[Place]) -> tuple[float, int]:
        """Recorded seconds of the steps that make these, and how many steps were never seen."""
        steps = {(self._step_of(key), period): key for key, period in places}
        total, unknown = 0.0, 0
        for (_, period), key in steps.items():
            took = self._took(key, period)
            total, unknown = total + (took or 0.0), unknown + (took is None)
        return total, unknown

    def _step_of(self, key: dg.AssetKey) -> str:
        return str(sorted(self.graph.get(key).execution_set_asset_keys)[0])

    def _took(self, key: dg.AssetKey, period: str | None) -> float | None:
        """Seconds of the newest time that this was made; of another period the median; None if it never was."""
        own = self._made(key, period)
        if own is not None or period is None:
            return own
        others = [took for other in self.periods if (took := self._made(key, other)) is not None]
        return median(others) if others else None

    def _made(self, key: dg.AssetKey, period: str | None) -> float | None:
        partitions = [period] if period else None
        request = dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions)
        for record in self.instance.fetch_materializations(request, limit=1).records:
            return self._seconds_of_run(record.run_id).get(str(record.event_log_entry.step_key))
        return None

    def _seconds_of_run(self, run: str) -> dict[str, float]:
        if run not in self._steps:
            self._steps[run] = {
                step.step_key: step.end_time - step.start_time
                for step in self.instance.get_run_step_stats(run)
                if step.start_time and step.end_time
            }
        return self._steps[run]

    def options(self) -> list[dict[str, Any]]:
        """The three ways to deal with it, with seconds."""
        trained = {key for key in self.keys if self._is_trained(key)}
        rescored = [place for place in self.stale if place[0] not in trained]
        begin = next((period for _, period in self.stale if period), None)
        again, unseen = self.seconds(rescored)
        everything, unknown = self.seconds(self.stale)
        stays = "scores, reports and forecasts stay as they were made"
        kept = "models stay; data, scores and reports follow the new rows; select these assets in the UI"
        run = f"st-pipeline run {self.stream.name}" + (f" --periods {begin}..{self.periods[-1]}" if begin else "")
        rows = [("ignore", 0, 0.0, 0, stays), ("re-score", len(rescored), again, unseen, kept)]
        rows.append((f"recompute from {begin or 'here'} on", len(self.stale), everything, unknown, run))
        names = ("option", "partitions", "seconds", "unknown", "what")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _is_trained(self, key: dg.AssetKey) -> bool:
        models = {model.name: model.parts for model in self.stream.config.models}
        return len(key.path) == 3 and key.path[2] in models.get(key.path[1], ())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
