"""Schedules of forecasts where there are forecasts, and freshness where somebody waits."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions import freshness_evaluator
from dagster._core.loader import LoadingContextForTest

from assets.common import StreamAssets
from assets.jobs import cron_of, forecast_schedule, stream_job, stream_schedule
from st_pipeline.data_config import AutomationConfig
from st_pipeline.forecasts_config import ForecastsConfig
from st_pipeline.streams import find_stream

DAYS = dg.DailyPartitionsDefinition("2024-01-01")


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [(5, "*/5 * * * *"), (15, "*/15 * * * *"), (60, "0 */1 * * *"), (360, "0 */6 * * *"), (1440, "0 0 * * *")],
)
def test_the_cadence_as_cron(minutes: int, cron: str) -> None:
    assert cron_of(timedelta(minutes=minutes)) == cron


def stream(every: timedelta | None, **automation: Any) -> Any:
    forecasts, rules = ForecastsConfig(every=every), AutomationConfig(**automation)
    config = SimpleNamespace(forecasts=forecasts, automation=rules, step=timedelta(minutes=5))
    return SimpleNamespace(name="small", config=config)


@dg.asset(key=["small", "tensor"], partitions_def=DAYS)
def tensor() -> None:
    """What forecasts are made of."""


@dg.asset(key=["small", "forecast"], partitions_def=DAYS, config_schema={"only_missing": dg.Field(bool, False)})
def forecast() -> None:
    """Forecasts with the option that leaves issued ones alone."""


def test_forecasts_are_issued_for_the_newest_period_and_issued_ones_stay() -> None:
    schedule = forecast_schedule(stream(timedelta(hours=1), schedules=True), [tensor, forecast])
    assert schedule is not None
    assert (schedule.cron_schedule, schedule.default_status) == ("0 */1 * * *", dg.DefaultScheduleStatus.RUNNING)
    definitions = dg.Definitions(assets=[tensor, forecast], schedules=[schedule])
    with dg.instance_for_test() as instance:
        repository = definitions.get_repository_def()
        context = dg.build_schedule_context(instance, repository_def=repository)
        tick = schedule.evaluate_tick(context)
        assert "no period to forecast from" in str(tick.skip_message)
        for day in ("2024-01-02", "2024-01-01"):
            instance.report_runless_asset_event(dg.AssetMaterialization(tensor.key, partition=day))
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.partition_key == "2024-01-02"
    assert request.run_config == {"ops": {"small__forecast": {"config": {"only_missing": True}}}}


def test_no_forecasts_no_schedule() -> None:
    assert forecast_schedule(stream(timedelta(hours=1)), [tensor]) is None
    assert forecast_schedule(stream(None), [tensor, forecast]) is None


def test_schedules_without_a_cadence_are_hourly() -> None:
    schedule = forecast_schedule(stream(None, schedules=True), [tensor, forecast])
    assert schedule is not None
    assert (schedule.cron_schedule, schedule.default_status) == ("0 */1 * * *", dg.DefaultScheduleStatus.RUNNING)


def test_the_switch_of_the_stream_file_turns_the_schedule_on(workspace: Any) -> None:
    for name, automation in (("off", {}), ("on", {"automation": {"schedules": True}})):
        workspace.stream(name, **automation)
        found = find_stream(name)
        running = stream_schedule(found, stream_job(found)).default_status == dg.DefaultScheduleStatus.RUNNING
        assert running is (name == "on")


def test_only_what_is_waited_for_of_a_stream_without_end_can_be_late(workspace: Any) -> None:
    workspace.stream("ended")
    workspace.stream("open", periods={"every": "7d", "start": "2024-01-01"})
    of, ended = StreamAssets(find_stream("open")), StreamAssets(find_stream("ended"))
    assert ended.freshness("report") is None and of.freshness("drift") is None
    policy = of.freshness("report")
    assert policy == dg.FreshnessPolicy.time_window(timedelta(days=14), timedelta(days=8, hours=18))
    assert of.common("report", {})["freshness_policy"] == policy
    assert "freshness_policy" not in ended.common("report", {})


def test_the_daemon_finds_a_partitioned_asset_late(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = dg.FreshnessPolicy.time_window(timedelta(days=14), timedelta(days=8))

    @dg.asset(partitions_def=DAYS, freshness_policy=policy)
    def report() -> None:
        """What somebody waits for."""

    with dg.instance_for_test() as instance:
        assert instance.freshness_enabled, "the daemon looks without being told to"
        instance.report_runless_asset_event(dg.AssetMaterialization("report", partition="2024-01-01"))
        node = dg.Definitions(assets=[report]).get_repository_def().asset_graph.get(report.key)
        found = []
        for days in (1, 9, 15):
            monkeypatch.setattr(freshness_evaluator, "get_current_timestamp", lambda d=days: time.time() + 86400 * d)
            evaluator = freshness_evaluator.TimeWindowFreshnessPolicyEvaluator()
            found.append(asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node)).value)
    assert found == ["PASS", "WARN", "FAIL"]
