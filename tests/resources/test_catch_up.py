"""What is asked for next, stage by stage: a period that is not over, runs that go on, forecasts that can be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.test_utils import create_run_for_test

from assets.common import StreamAssets
from assets.stream import stream_assets
from resources.catch_up import STAGE, STEP, CatchUp, Step, Wait
from resources.instance import open_instance
from st_pipeline.forecasting.serving import Action, Event, lock_file, replay, store, stored_history
from st_pipeline.landing.watch import Watch
from st_pipeline.storage import FRAME, dump_frame, lake
from st_pipeline.streams import find_stream

PERIOD = "2024-01-08"
BEGIN = datetime(2024, 1, 8, tzinfo=UTC)
MIDDLE, END = BEGIN + timedelta(days=3), BEGIN + timedelta(days=7)
WATCH = Watch(pending=(PERIOD,), changed=(PERIOD,), edition="first")
Status = dg.DagsterRunStatus


@dataclass
class Desk:
    """A stream with one model and an asset of forecasts; runs are only noted."""

    workspace: Any
    instance: dg.DagsterInstance

    def ask(self, now: datetime = END, watch: Watch = WATCH, **changes: Any) -> Step | Wait | None:
        model = {"name": "online", "backbone": "stgnn", "strategy": "online"}
        self.workspace.stream("small", models=[model], **changes)
        stream = find_stream("small")
        of = StreamAssets(stream)

        @dg.asset(key=of.key("forecast"), group_name="small", partitions_def=of.partitions, deps=[of.key("tensor")])
        def forecast() -> None:
            """Needs nothing that is trained."""

        graph = AssetGraph.from_assets([*stream_assets(stream), forecast])
        return CatchUp(stream, self.instance, graph).next(watch, now)[1]

    def done(self, step: Step | Wait | None, status: Status = Status.SUCCESS) -> Step:
        assert isinstance(step, Step), step
        tags = {STEP: step.name, STAGE: step.stage}
        create_run_for_test(self.instance, status=status, tags=tags, asset_selection=frozenset(step.keys))
        return step

    def landed(self, until: datetime) -> None:
        """Rows of the period up to a time, as its first run leaves them."""
        rows = pl.DataFrame({"sensor_id": ["a"], "timestamp": [until.replace(tzinfo=None)]})
        lake().write(("small", "raw_readings"), PERIOD, FRAME, dump_frame(rows))


def names(step: Step | Wait | None) -> set[str]:
    assert isinstance(step, Step), step
    return {"/".join(key.path[1:]) for key in step.keys}


@pytest.fixture
def desk(workspace: Any) -> Iterator[Desk]:
    with open_instance() as instance:
        found = Desk(workspace, instance)
        found.done(found.ask())
        yield found


def test_a_new_period_that_is_over_is_one_run(desk: Desk) -> None:
    step = desk.done(desk.ask())
    assert {"raw_readings", "readings", "online/backbone", "report", "forecast"} <= names(step)
    assert desk.ask() is None


def test_a_period_that_is_not_over_gets_data_and_forecasts_and_models_later(desk: Desk) -> None:
    assert names(desk.ask(BEGIN + timedelta(hours=12))) == {"raw_readings", "edges"}
    assert names(desk.done(desk.ask(MIDDLE))) == {"raw_readings", "edges"}
    desk.landed(MIDDLE)
    data = desk.done(desk.ask(MIDDLE))
    assert {"readings", "tensor"} <= names(data) and "online/backbone" not in names(data)
    assert "trained on when it is over" in desk.ask(MIDDLE).reason, "a forecast without a tensor cannot be made"  # type: ignore[union-attr]
    desk.instance.report_runless_asset_event(
        dg.AssetMaterialization(dg.AssetKey(["small", "tensor"]), partition=PERIOD)
    )
    assert names(desk.done(desk.ask(MIDDLE))) == {"forecast"}
    assert isinstance(desk.ask(MIDDLE), Wait)
    assert "drift" in names(desk.done(desk.ask(END))), "forecasts did not need it"
    assert {"online/backbone", "report", "forecast"} <= names(desk.ask(END))


def test_rows_that_reach_the_end_make_a_period_over(desk: Desk) -> None:
    desk.landed(END - timedelta(hours=1))
    desk.done(desk.ask(MIDDLE))
    desk.done(desk.ask(MIDDLE))
    assert "online/backbone" in names(desk.ask(MIDDLE))


def test_the_stream_file_can_have_unfinished_periods_trained_on(desk: Desk) -> None:
    assert "online/backbone" in names(desk.ask(MIDDLE, automation={"train_incomplete": True}))


def freeze(action: Action) -> None:
    """One more action in the history of the stream."""
    config = find_stream("small").config
    before = stored_history(config)
    event = Event(at=END, action=action, model="online", before="online", by="ann", reason="roadworks")
    lock_file(config).parent.mkdir(parents=True, exist_ok=True)
    lock_file(config).touch()
    store(config, replay(config, (*before, event)))


def test_a_frozen_stream_gets_forecasts_and_learns_when_it_is_unfrozen(desk: Desk) -> None:
    freeze("freeze")
    new = Watch(pending=(PERIOD, "2024-01-15"), changed=(), edition="second")
    desk.landed(END)
    now = END + timedelta(days=7)
    assert names(desk.done(desk.ask(now, new))) == {"raw_files", "sensors"}
    for period in new.pending:
        for wanted in ({"raw_readings", "edges"}, {"readings", "tensor"}, {"forecast"}):
            step = desk.done(desk.ask(now, new))
            assert step.period == period and wanted <= names(step) and "online/backbone" not in names(step)
            for key in step.keys:
                desk.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=period))
    found = desk.ask(now, new)
    assert isinstance(found, Wait) and "frozen by ann" in found.reason and "roadworks" in found.reason
    freeze("unfreeze")
    step = desk.done(desk.ask(now, new))
    assert step.period == PERIOD and "drift" in names(step) and "online/backbone" not in names(step)
    assert "online/backbone" in names(desk.ask(now, new))


def test_a_period_that_has_not_begun_waits(desk: Desk) -> None:
    key = datetime.now(UTC).date() + timedelta(days=1)
    found = desk.ask(watch=Watch(pending=(str(key),), edition="first"), periods={"every": "7d", "start": "2024-01-01"})
    assert isinstance(found, Wait) and "has not begun" in found.reason


def test_one_run_of_a_stream_at_a_time(desk: Desk) -> None:
    tags = {STEP: "other"}
    chosen = frozenset({dg.AssetKey(["small", "report"])})
    run = create_run_for_test(desk.instance, status=Status.STARTED, tags=tags, asset_selection=chosen)
    assert desk.ask() == Wait(f"waits for run {run.run_id}")
    desk.instance.report_run_canceled(run)
    create_run_for_test(
        desk.instance, status=Status.STARTED, asset_selection=frozenset({dg.AssetKey(["other", "report"])})
    )
    assert isinstance(desk.ask(), Step), "other streams are no reason to wait"


@pytest.mark.parametrize("status", [Status.FAILURE, Status.CANCELED])
def test_what_failed_is_not_asked_for_again_until_something_is_new(desk: Desk, status: Status) -> None:
    step = desk.done(desk.ask(), status)
    found = desk.ask()
    assert isinstance(found, Wait) and status.value in found.reason
    later = Watch(pending=(PERIOD,), changed=(PERIOD,), edition="second")
    desk.done(desk.ask(watch=later))
    assert names(desk.ask(watch=later)) == names(step)
