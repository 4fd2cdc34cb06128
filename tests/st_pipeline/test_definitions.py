"""The code location: what loads, what is left out of the import, jobs and schedules, broken streams."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from st_pipeline import streams as finding
from st_pipeline.definitions import build


@pytest.fixture
def alone(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The workspace without the shipped streams."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    return workspace


def test_shipped_streams_load_without_faults(workspace: Any) -> None:
    definitions = build()
    groups = {node.group_name for node in definitions.resolve_asset_graph().asset_nodes}
    assert {"roadnet", "melbourne", "berlin", "beijing"} <= groups
    assert "broken_streams" not in groups
    assert definitions.resolve_implicit_global_asset_job_def()
    dg.Definitions.validate_loadable(definitions)


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys, st_pipeline.definitions\n"
        "print([m for m in ('torch', 'great_expectations', 'matplotlib', 'scipy', 'statsmodels') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_job_and_schedule_of_a_stream(alone: Any) -> None:
    alone.stream("tiny")
    definitions = build()
    job = definitions.resolve_job_def("tiny_period")
    assert job.partitions_def is not None and len(job.partitions_def.get_partition_keys()) == 3
    assert {key.path[0] for key in job.asset_layer.executable_asset_keys} == {"tiny"}
    schedule = definitions.resolve_schedule_def("tiny_newest_period")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


def test_schedule_runs_the_newest_complete_period_once(alone: Any) -> None:
    alone.stream("tiny", periods={"every": "7d", "start": "2024-01-01"})
    definitions = build()
    schedule = definitions.resolve_schedule_def("tiny_newest_period")

    def tick(moment: datetime) -> Any:
        repository = definitions.get_repository_def()
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=moment, repository_def=repository
        )
        return schedule.evaluate_tick(context)

    with dg.DagsterInstance.local_temp(str(alone.folder)) as instance:
        early = tick(datetime(2024, 1, 7, tzinfo=UTC))
        assert "no period of tiny is complete yet" in (early.skip_message or "")
        (request,) = tick(datetime(2024, 1, 16, 1, 30, tzinfo=UTC)).run_requests
        assert request.partition_key == "2024-01-08"
        (later,) = tick(datetime(2024, 1, 22, 1, 30, tzinfo=UTC)).run_requests
        assert later.partition_key == "2024-01-15"
        key = dg.AssetKey(["tiny", "report"])
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2024-01-15"))
        done = tick(datetime(2024, 1, 23, 1, 30, tzinfo=UTC))
        assert not done.run_requests and "has its report already" in (done.skip_message or "")


def test_schedule_of_days_ticks_daily_and_of_months_monthly(alone: Any) -> None:
    alone.stream("ten", periods={"every": "10d", "start": "2024-01-01"})
    alone.stream("weekly", periods={"every": "week", "start": "2024-01-03"})
    definitions = build()
    crons = {
        name: definitions.resolve_schedule_def(f"{name}_newest_period").cron_schedule for name in ("ten", "weekly")
    }
    assert crons == {"ten": "30 1 * * *", "weekly": "30 1 * * 3"}


def test_broken_stream_takes_no_other_down(alone: Any) -> None:
    alone.stream("good")
    alone.stream("bad", windov=3)
    (alone.streams / "no-file").mkdir()
    (alone.streams / "no_file").mkdir()
    graph = build().resolve_asset_graph()
    nodes = {"/".join(node.key.path): node for node in graph.asset_nodes}
    assert "good/report" in nodes
    broken = {key: node for key, node in nodes.items() if node.group_name == "broken_streams"}
    assert len(broken) == 3
    text = broken["broken_streams/bad"].description or ""
    assert "bad/stream.yaml" in text and "windov" in text and "did you mean 'window'?" in text


def test_materialising_a_broken_stream_fails_with_its_sentence_until_it_is_mended(alone: Any) -> None:
    alone.stream("bad", windov=3)
    job = build().resolve_implicit_global_asset_job_def()
    failed = job.execute_in_process(raise_on_error=False)
    (event,) = failed.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.user_failure_data is not None
    assert "did you mean 'window'?" in (event.step_failure_data.user_failure_data.description or "")
    alone.stream("bad")
    assert job.execute_in_process().success


def test_two_folders_of_one_stream_name(alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone.stream("twin")
    other = alone.folder / "more" / "twin"
    other.mkdir(parents=True)
    (other / "stream.yaml").write_text((alone.streams / "twin" / "stream.yaml").read_text())
    monkeypatch.setenv("ST_PIPELINE_STREAMS", f"{alone.streams}:{other.parent}")
    definitions = build()
    nodes = {"/".join(node.key.path): node for node in definitions.resolve_asset_graph().asset_nodes}
    assert "twin/report" in nodes and "exists already" in (nodes["broken_streams/twin"].description or "")
    keys = [dg.AssetKey(["broken_streams", "twin"])]
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=keys, raise_on_error=False
    )
    assert not result.success


def test_stream_names_that_look_like_jobs_and_schedules(alone: Any) -> None:
    for name in ("net", "net_newest", "net_period"):
        alone.stream(name)
    definitions = build()
    assert definitions.resolve_implicit_global_asset_job_def()
    assert len(list(definitions.resolve_all_job_defs())) >= 3
