"""Materialising a stream through Dagster in this process: only what is missing or stale, periods in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import dagster as dg

from resources.failures import sentence
from resources.source import open_source
from resources.stages import FINAL, RESULTS, SOURCES, is_behind, needed, needed_by, stages, stale_among
from resources.staleness import Staleness
from st_pipeline.data.inventory import inventory
from st_pipeline.errors import InputError
from st_pipeline.forecasting.serving import serving_model
from st_pipeline.periods import between
from st_pipeline.storage import FRAME, digest
from st_pipeline.streams import Stream

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


Told = Callable[[str, int, int], object]


def _silent(text: str, done: int, total: int) -> None:
    """Tells nobody."""


@dataclass
class Outcome:
    """What a run did."""

    materialised: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed and not self.blocked


@dataclass(frozen=True)
class Scope:
    """What to materialise: period keys in order, models (the stream's own if empty), and what is made on request.

    With `forecasts` it is the forecasts and the data they are made of, and nothing that is trained.
    """

    periods: tuple[str, ...]
    models: tuple[str, ...] = ()
    compare: bool = False
    studies: bool = False
    forecasts: bool = False

    @property
    def on_request(self) -> bool:
        """Whether models are asked for that the leaderboard shows without depending on them."""
        return self.compare or self.studies


def scope(
    stream: Stream, periods: str | None, models: str | None, *, compare: bool = False, studies: bool = False
) -> Scope:
    """From `A..B` (or one key) and `a,b`.

    Raises:
        InputError: a period or model does not exist.
    """
    keys = [period.key for period in stream.config.calendar.periods()]
    if not keys:
        raise InputError(
            f"stream {stream.name!r}: no period is complete yet; "
            f"the first ends on {stream.config.calendar.period(0).end.date()}"
        )
    keys = between(keys, periods, stream.name)
    names = tuple(name.strip() for name in models.split(",")) if models else ()
    for name in names:
        if name not in stream.config.scored_beside:
            stream.config.model(name)
    if names and (compare or studies):
        raise InputError("--models names all the models to train; leave it out, or --compare and --studies")
    if compare and not stream.config.compare:
        raise InputError(f"stream {stream.name!r} compares no methods; add `compare: {{methods: all}}` to its file")
    if studies and not stream.config.studies:
        raise InputError(f"stream {stream.name!r} has no studies; add some under `studies` to its file")
    return Scope(tuple(keys), names, compare, studies)


class Runner:
    """Runs parts of one stream's assets and keeps account."""

    def __init__(self, stream: Stream, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self.stream = stream
        self.instance = instance
        self.definitions = definitions
        self.graph = definitions.get_repository_def().asset_graph
        self.staleness = Staleness(instance, self.graph, ())
        self.keys = [key for key in self.graph.toposorted_asset_keys if key.path[0] == stream.name]
        if not self.keys:
            raise InputError(f"stream {stream.name!r} is not loaded; see `st-pipeline streams`")
        self.outcome = Outcome()
        logging.getLogger("dagster").setLevel(logging.CRITICAL)

    @cached_property
    def job(self) -> dg.JobDefinition:
        """Every asset there is; made when there is something to run."""
        return self.definitions.resolve_implicit_global_asset_job_def()

    def run(self, wanted: Scope, told: Told = _silent) -> Outcome:
        """Bring everything in scope up to date.

        A failure stops what depends on it, in its own and later periods, and nothing else.

        Args:
            told: called before each Dagster run with what it is, and how many of how many assets are behind it.
        """
        self.staleness = Staleness(self.instance, self.graph, wanted.periods)
        chosen = self._in_scope(wanted)
        by_stage = [[key for key in stage if key in chosen] for stage in stages(self.graph, self.keys)]
        finals = self._finals(wanted)
        total = len(SOURCES) + len(wanted.periods) * sum(map(len, by_stage)) + len(finals)
        done = 0

        def step(keys: list[dg.AssetKey], period: str | None, considered: int) -> None:
            nonlocal done
            self._materialise(keys, period, lambda text: told(text, done, total))
            done += considered

        step(self._stale_sources(), None, len(SOURCES))
        for period in wanted.periods:
            for keys in by_stage:
                step(stale_among(self.staleness, keys, period), period, len(keys))
        for final in finals:
            news = final == self._key(FINAL) and wanted.on_request and bool(self.outcome.materialised)
            behind = news or is_behind(self.instance, self.graph, final)
            step([final] if behind else stale_among(self.staleness, [final], None), None, 1)
        return self.outcome

    def _finals(self, wanted: Scope) -> list[dg.AssetKey]:
        """What is made of all periods together."""
        if wanted.models or wanted.forecasts:
            return []
        studies = [self._key("study", study.name) for study in self.stream.config.studies if wanted.studies]
        return [self._key(FINAL), *([self._key("comparison")] if wanted.compare else []), *studies]

    def _key(self, *parts: str) -> dg.AssetKey:
        return dg.AssetKey([self.stream.name, *parts])

    def _in_scope(self, wanted: Scope) -> set[dg.AssetKey]:
        """The stream's group, with what was asked for beside it; or the data, the named models and the naive ones."""
        if wanted.forecasts:
            return needed_by(self.graph, [self._key("forecast")])
        if wanted.models:
            models = {"naive", *wanted.models}
            served = serving_model(self.stream.config).name if self.stream.config.models else ""
            hidden = RESULTS[:1] if served in models else RESULTS
            data = {key for key in self.keys if len(key.path) == 2 and key.path[1] not in hidden}
            return data | {key for key in self.keys if key.path[1] in models}
        asked = self._on_request(wanted)
        return {key for key in self.keys if self.graph.get(key).group_name == self.stream.name or key.path[1] in asked}

    def _on_request(self, wanted: Scope) -> set[str]:
        """Models whose assets on request are asked for too: all that are compared, all that a study trains."""
        config = self.stream.config
        compared = {model.name for model in config.compared}
        found = {*compared, *(model.name for model in config.models)} if wanted.compare else set()
        if wanted.studies:
            found |= {model.name for variants in config.studied.values() for model in variants.values()}
            found |= compared & {study.of for study in config.studies}
        return found

    def _stale_sources(self) -> list[dg.AssetKey]:
        """`raw_files` if the files' content is not what was recorded, and `sensors` if it is stale or follows."""
        files, sensors = (self._key(name) for name in SOURCES)
        now = digest(FRAME.dump(inventory(open_source(self.stream).files())))
        record = self.instance.get_latest_materialization_event(files)
        written = record.asset_materialization if record else None
        known = (written.tags or {}).get("dagster/data_version") if written else None
        stale = set(stale_among(self.staleness, [files, sensors], None))
        if known != now:
            stale |= {files, sensors}
        return [key for key in (files, sensors) if key in stale]

    def _is_blocked(self, key: dg.AssetKey, period: str | None) -> bool:
        """Whether something this asset needs has failed or was blocked in this run."""
        stopped = {*self.outcome.failed, *self.outcome.blocked}
        if not stopped or (not self.graph.get(key).is_partitioned and key.path[1] not in SOURCES):
            return False
        parents = self.graph.get(key).parent_keys
        return any(
            _name(parent, moment) in stopped for parent in parents for moment in needed(self.graph, key, parent, period)
        )

    def _materialise(self, keys: list[dg.AssetKey], period: str | None, told: Callable[[str], object]) -> None:
        """One Dagster run of the keys that nothing blocks."""
        ready: list[dg.AssetKey] = []
        for key in keys:
            if self._is_blocked(key, period):
                self.outcome.blocked.append(_name(key, period))
            else:
                ready.append(key)
        if not ready:
            return
        told(f"{self.stream.name}{' ' + period if period else ''}: {len(ready)} asset{'s' if len(ready) > 1 else ''}")
        result = self.job.execute_in_process(
            partition_key=period, asset_selection=ready, instance=self.instance, raise_on_error=False, run_config=QUIET
        )
        self.staleness = self.staleness.renewed()
        done = {event.asset_key for event in result.get_asset_materialization_events()}
        reasons = dict(_failures(result, self.job, period))
        self.outcome.failed.update(reasons)
        for key in ready:
            name = _name(key, period)
            if key in done:
                self.outcome.materialised.append(name)
            elif name not in reasons:
                self.outcome.blocked.append(name)
        if not result.success and not reasons:
            raise InputError(
                f"{self.stream.name}: a Dagster run failed before its first step; "
                f"open `st-pipeline ui` and see run {result.run_id}"
            )


def _failures(
    result: dg.ExecuteInProcessResult, job: dg.JobDefinition, period: str | None
) -> Iterator[tuple[str, str]]:
    """Names of the assets and asset checks whose step failed, with the sentence of the failure."""
    for event in result.filter_events(lambda event: event.is_step_failure):
        made = job.asset_layer.get_assets_def_for_node(event.node_handle) if event.node_handle else None
        names = [_name(key, period) for key in made.keys] if made else []
        if made and not names:
            names = [f"{_name(check.asset_key, period)}, check {check.name}" for check in made.check_keys]
        for name in names or [str(event.step_key)]:
            yield name, sentence(event)


def _name(key: dg.AssetKey, period: str | None) -> str:
    return "/".join(key.path) + (f" of {period}" if period else "")
