"""What a stream's watched files ask for next: one run at a time, periods in order, each on what the last has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from resources.stages import FINAL, FORECASTS, SOURCES, is_behind, needed, needed_by, stages, stale_among
from resources.staleness import Staleness
from st_pipeline.forecasting.serving import why_frozen
from st_pipeline.landing.periods import may_train
from st_pipeline.landing.watch import Watch
from st_pipeline.periods import Period
from st_pipeline.storage import FRAME, lake
from st_pipeline.streams import Stream

STEP, STAGE = "st_pipeline/step", "st_pipeline/stage"


@dataclass(frozen=True)
class Step:
    """A run to ask for: its name, which is asked for once, its stage whatever the files, its assets and its period."""

    name: str
    stage: str
    keys: tuple[dg.AssetKey, ...]
    period: str | None


@dataclass(frozen=True)
class Wait:
    """Why nothing is asked for."""

    reason: str


class CatchUp:
    """Answers for one look at a stream.

    Args:
        graph: of all assets.
    """

    def __init__(self, stream: Stream, instance: dg.DagsterInstance, graph: BaseAssetGraph) -> None:
        self.stream, self.instance, self.graph = stream, instance, graph
        own = [key for key in graph.toposorted_asset_keys if key.path[0] == stream.name]
        self.keys = [key for key in own if graph.get(key).group_name == stream.name]
        self.stages = stages(graph, self.keys)

    def next(self, watch: Watch, now: datetime | None = None) -> tuple[Watch, Step | Wait | None]:
        """The state without the periods that are up to date, and what comes next; None when nothing is in line."""
        if not watch.pending:
            return watch, None
        if busy := self._busy():
            return watch, Wait(f"waits for run {busy}")
        if step := self._sources(watch):
            return watch, step
        there = {period.key: period for period in self.stream.config.calendar.begun(now)}
        settled = frozenset(dg.AssetKey([self.stream.name, name]) for name in SOURCES[:1])
        staleness = Staleness(self.instance, self.graph, watch.pending, settled)
        final = self._step(watch, None, FINAL, [dg.AssetKey([self.stream.name, FINAL])])
        frozen = why_frozen(self.stream.config)
        held: Wait | None = None
        for key in watch.pending:
            if key not in there:
                return watch, held or Wait(f"period {key} has not begun")
            found = self._of_period(watch, there[key], staleness, now, frozen)
            if isinstance(found, Wait) and found.reason == frozen:
                held = found
            elif found:
                return watch, found
            else:
                watch = watch.done(key)
        if held:
            return watch, held
        behind = is_behind(self.instance, self.graph, final.keys[0])
        return watch, final if behind and self._last(final.name) is None else None

    def _busy(self) -> str | None:
        """A run of this stream that has not ended."""
        for run in self.instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
            chosen = {key.path[0] for key in run.asset_selection or ()}
            if self.stream.name in chosen or run.job_name == f"{self.stream.name}_period":
                return run.run_id
        return None

    def _sources(self, watch: Watch) -> Step | Wait | None:
        step = self._step(watch, None, "sources", [dg.AssetKey([self.stream.name, name]) for name in SOURCES])
        last = self._last(step.name)
        return step if last is None else self._unless_failed(last, step)

    def _of_period(
        self, watch: Watch, period: Period, staleness: Staleness, now: datetime | None, frozen: str | None
    ) -> Step | Wait | None:
        """The next run of a period; None when it is up to date. While learning is frozen it gets its forecasts."""
        landed, made, results = self.stages
        over = not frozen and may_train(self.stream, period, lake(), now)
        whole = self._step(watch, period.key, "all", [*landed, *made, *results])
        there = lake().exists((self.stream.name, "raw_readings"), period.key, FRAME)
        if over and (not there or self._last(whole.name)):
            plan = [("all", list(whole.keys))]
        else:
            early = [key for key in results if key.path[-1] in FORECASTS]
            plan = [("landed", landed)]
            if over:
                plan += [("data", made), ("results", results)]
            else:
                plan += [("inputs", self._data_of(early, made)), ("forecast", early)]
        for name, keys in plan:
            if found := self._of_stage(watch, period.key, name, keys, staleness):
                return found
        return None if over else Wait(frozen or f"period {period.key} is trained on when it is over")

    def _of_stage(
        self, watch: Watch, period: str, name: str, keys: list[dg.AssetKey], staleness: Staleness
    ) -> Step | Wait | None:
        """The run of one stage of a period; None when there is nothing to do, or it was done."""
        step = self._step(watch, period, name, keys)
        if last := self._last(step.name):
            return self._unless_failed(last, step)
        forced = set(keys) if name == "all" or (name == "landed" and period in watch.changed) else self._failed(step)
        wanted = [key for key in keys if key in {*forced, *stale_among(staleness, keys, period)}]
        if name == "forecast":
            wanted = [key for key in wanted if self._can_be_made(key, period, wanted)]
        return replace(step, keys=tuple(wanted)) if wanted else None

    def _failed(self, step: Step) -> set[dg.AssetKey]:
        """What the newest run of a stage should have made and nobody has: its checks and alerts still say so."""
        last = next(iter(self.instance.get_runs(dg.RunsFilter(tags={STAGE: step.stage}), limit=1)), None)
        if last is None or self._unless_failed(last, step) is None:
            return set()
        return set(last.asset_selection or ())

    def _data_of(self, forecasts: Sequence[dg.AssetKey], among: Sequence[dg.AssetKey]) -> list[dg.AssetKey]:
        """Those that forecasts are made of; all of them where there are no forecasts."""
        found = needed_by(self.graph, forecasts)
        return [key for key in among if key in found] if forecasts else list(among)

    def _can_be_made(self, key: dg.AssetKey, period: str, beside: Sequence[dg.AssetKey]) -> bool:
        """Whether all that an asset needs is there, or made in the same run; of models it takes what is there."""
        for parent in self.graph.get(key).parent_keys - {*beside}:
            if len(parent.path) == 3:
                continue
            known = self.instance.get_materialized_partitions(parent) if self.graph.get(parent).is_partitioned else None
            if known is not None and not set(needed(self.graph, key, parent, period)) <= known:
                return False
        return True

    def _step(self, watch: Watch, period: str | None, name: str, keys: Sequence[dg.AssetKey]) -> Step:
        known = tuple(key for key in keys if self.graph.has(key))
        stage = f"{self.stream.name}/{period or 'all'}/{name}"
        return Step(f"{stage}/{watch.edition}", stage, known, period)

    def _last(self, name: str) -> dg.DagsterRun | None:
        """The newest run of a step."""
        return next(iter(self.instance.get_runs(dg.RunsFilter(tags={STEP: name}), limit=1)), None)

    def _unless_failed(self, run: dg.DagsterRun, step: Step) -> Wait | None:
        """Why a step waits whose run did not succeed, unless all of it was made since by somebody."""
        if run.status == dg.DagsterRunStatus.SUCCESS or self._was_made(run, step):
            return None
        what = f"period {step.period}" if step.period else "the sources"
        ended = f"run {run.run_id} ended as {run.status.value}"
        return Wait(f"{what} waits: {ended}; correct the files, or run it again in the UI")

    def _was_made(self, run: dg.DagsterRun, step: Step) -> bool:
        record = self.instance.get_run_record_by_id(run.run_id)
        begin = record.create_timestamp.timestamp() if record else float("inf")
        times = [self._made_at(key, step.period) for key in run.asset_selection or ()]
        return bool(times) and min(times) >= begin

    def _made_at(self, key: dg.AssetKey, period: str | None) -> float:
        request = dg.AssetRecordsFilter(key, asset_partitions=[period] if period else None)
        found = self.instance.fetch_materializations(request, limit=1).records
        return found[0].timestamp if found else 0.0
