"""A retry that the daemon promised and lost is asked for again, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, BACKFILL_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.auto_run_reexecution.event_log_consumer import _create_cursor_key

from resources import retries
from resources.instance import open_instance
from resources.retries import MOST, RECALLED, recall_lost_retries

KEY = _create_cursor_key(dg.DagsterEventType.RUN_FAILURE)
FAR = 10**6


@pytest.fixture
def instance(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setattr(retries, "PATIENCE", timedelta(seconds=-5))
    with open_instance() as found:
        found.daemon_cursor_storage.set_cursor_values({KEY: str(FAR)})
        yield found


def failed(instance: dg.DagsterInstance, *, origin: bool = True, **tags: str) -> dg.DagsterRun:
    """A run that has failed and is to be retried."""
    from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    place = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="x"))
    known = RemoteJobOrigin(RemoteRepositoryOrigin(place, "r"), "job") if origin else None
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, remote_job_origin=known)
    instance.report_run_failed(run, "its process has died")
    instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "true", **tags})
    return run


def cursor(instance: dg.DagsterInstance) -> int:
    return int(instance.daemon_cursor_storage.get_cursor_values({KEY})[KEY])


def test_the_daemon_is_set_back_to_before_the_failure(instance) -> None:
    run = failed(instance)
    assert recall_lost_retries(instance) == [run.run_id]
    events = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
        after_cursor=cursor(instance), dagster_event_type={dg.DagsterEventType.RUN_FAILURE}
    )
    assert [entry.run_id for entry in events.values()] == [run.run_id]


def test_it_is_not_set_back_for_ever(instance) -> None:
    run = failed(instance)
    assert [recall_lost_retries(instance) for _ in range(MOST + 1)] == [[run.run_id]] * MOST + [[]]


@pytest.mark.parametrize(
    "tags",
    [
        {AUTO_RETRY_RUN_ID_TAG: "a retry"},
        {BACKFILL_ID_TAG: "one that was removed"},
        {WILL_RETRY_TAG: "false"},
        {RECALLED: str(MOST)},
    ],
)
def test_what_is_not_lost_is_left_alone(instance, tags) -> None:
    failed(instance, **tags)
    assert recall_lost_retries(instance) == []
    assert cursor(instance) == FAR


def test_a_run_of_the_command_line_cannot_be_retried(instance) -> None:
    failed(instance, origin=False)
    assert recall_lost_retries(instance) == []


def test_a_new_promise_has_time(instance, monkeypatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE", timedelta(hours=1))
    failed(instance)
    assert recall_lost_retries(instance) == []


def test_the_sensor_is_on(instance) -> None:
    from st_pipeline.definitions import defs

    sensor = defs.resolve_sensor_def("lost_retries")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    told = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(told, dg.SkipReason) and told.skip_message == "no retry is lost"
