"""`champion` performs an action through Dagster, and the schedule trains nothing while a stream is frozen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.champion import champion_asset
from assets.common import StreamAssets
from assets.jobs import forecast_schedule, stream_job, stream_schedule
from assets.stream import stream_assets
from checks.gate import ExpectationGate
from resources.compute import ComputeResource
from resources.lake import io_managers
from resources.source import SourceResource
from st_pipeline.config import StreamConfig
from st_pipeline.forecasting.serving import serving, why_frozen
from st_pipeline.storage import JSON, lake
from st_pipeline.streams import Stream

MODELS = [{"name": name, "backbone": "stgnn", "strategy": "online"} for name in ("one", "two")]


@pytest.fixture
def stream(workspace: Any, make_stream: Callable[..., StreamConfig], fill_losses: Callable[..., None]) -> Stream:
    fill_losses("small", {"one": 0.0, "two": -1.0})
    periods = {"every": "7d", "start": "2024-01-01", "end": "2024-01-22"}
    return Stream(make_stream(models=MODELS, periods=periods), Path("/nowhere/small"))


def resources() -> dict[str, Any]:
    return {**io_managers(), "source": SourceResource(), "compute": ComputeResource(), "gate": ExpectationGate()}


def with_schedules(stream: Stream) -> Stream:
    automation = stream.config.automation.model_copy(update={"schedules": True})
    return Stream(stream.config.model_copy(update={"automation": automation}), stream.folder)


def materialise(stream: Stream, instance: dg.DagsterInstance, **action: Any) -> dg.ExecuteInProcessResult:
    made = champion_asset(StreamAssets(stream))
    config = {"ops": {made.op.name: {"config": action}}}
    return dg.materialize([made], instance=instance, resources=io_managers(), run_config=config, raise_on_error=False)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_actions_are_performed_and_shown(stream: Stream) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        plain = materialise(stream, instance)
        assert (metadata(plain)["champion"], metadata(plain)["actions"]) == ("one", 0)
        assert lake().read(("small", "champion"), None, JSON) == {
            "champion": "one",
            "shadows": [],
            "frozen": False,
            "history": [],
        }
        promoted = metadata(materialise(stream, instance, action="promote", model="two", by="ann", reason="a | b"))
        assert promoted["champion"] == "two"
        assert "| promote | two | one | ann | a \\| b | error -" in promoted["history"]
        (event,) = serving(stream.config).history
        assert instance.get_run_by_id(event.run) is not None
        again = materialise(stream, instance)
        assert metadata(again)["champion"] == "two" and len(serving(stream.config).history) == 1


def test_a_shadow_has_forecasts_of_its_own(stream: Stream) -> None:
    def keys() -> set[str]:
        return {key.to_user_string() for made in stream_assets(stream) for key in made.keys}

    before = keys()
    with dg.DagsterInstance.ephemeral() as instance:
        materialise(stream, instance, action="shadow", model="two", by="ann")
        assert keys() - before == {"small/two/forecast", "small/two/forecast_scores"}
        schedule = forecast_schedule(with_schedules(stream), stream_assets(stream))
        assert schedule is not None
        made = dg.Definitions(stream_assets(stream), schedules=[schedule], resources=resources())
        job = made.resolve_job_def(schedule.job_name)
        assert len(job.asset_layer.executable_asset_keys) == 4
        materialise(stream, instance, action="unshadow", model="two", by="ann")
    assert keys() == before


def test_a_refusal_fails_the_run_with_its_sentence_and_writes_nothing(stream: Stream) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialise(stream, instance, action="rollback")
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    failure = event.step_failure_data.user_failure_data
    assert failure is not None and "there is no promotion to roll back" in str(failure.description)
    assert not result.get_asset_materialization_events()


def test_the_report_and_the_models_do_not_depend_on_who_serves(stream: Stream) -> None:
    own = StreamAssets(stream).key("champion")
    for made in stream_assets(stream):
        assert own not in {key for keys in made.asset_deps.values() for key in keys}


def test_challengers_change_no_code_version_but_the_champions(
    stream: Stream, make_stream: Callable[..., StreamConfig]
) -> None:
    def versions(config: StreamConfig) -> dict[str, str | None]:
        made = stream_assets(Stream(config, stream.folder))
        return {spec.key.to_user_string(): spec.code_version for asset in made for spec in asset.specs}

    before, after = versions(make_stream(models=MODELS)), versions(make_stream(models=MODELS, challengers=["two"]))
    assert {name for name in before if before[name] != after[name]} == {"small/champion"}


def test_the_schedule_skips_while_the_stream_is_frozen(stream: Stream) -> None:
    job = stream_job(stream)
    schedule = stream_schedule(stream, job)
    made = dg.Definitions(stream_assets(stream), jobs=[job], schedules=[schedule], resources=resources())
    repository = made.get_repository_def()
    with dg.DagsterInstance.local_temp() as instance:

        def tick() -> Any:
            moment = datetime(2024, 2, 1, tzinfo=UTC)
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=moment, repository_def=repository
            )
            found = schedule.evaluate_tick(context)
            return found.run_requests or found.skip_message

        assert tick()[0].partition_key == "2024-01-15"
        materialise(stream, instance, action="freeze", by="ann", reason="road works")
        assert "small is frozen by ann since" in tick() and "road works; one serves on" in tick()
        materialise(stream, instance, action="unfreeze", by="ann")
        assert tick()[0].partition_key == "2024-01-15" and why_frozen(stream.config) is None
