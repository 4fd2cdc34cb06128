"""A run whose process has died is known, marked, and gives its place in the pool back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus
from dagster._core.test_utils import create_run_for_test

from resources import launcher
from resources.instance import open_instance
from resources.launcher import LocalRunLauncher, bury_dead_runs, death_of, process_of

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance(workspace: Any) -> Iterator[dg.DagsterInstance]:
    with open_instance() as found:
        yield found


@pytest.fixture
def gone() -> int:
    """A process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def begun(instance: dg.DagsterInstance, pid: int | None, status: dg.DagsterRunStatus = STARTED) -> dg.DagsterRun:
    run = create_run_for_test(instance, status=status)
    instance.report_engine_event("an event without a process", run)
    if pid is not None:
        instance.report_engine_event("Started process", run, EngineEventData.in_process(pid))
    return run


def test_the_instance_has_the_launcher(instance) -> None:
    assert isinstance(instance.run_launcher, LocalRunLauncher)
    assert instance.run_launcher.supports_check_run_worker_health
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 10
    assert instance.run_monitoring_enabled


def test_a_run_lives_as_long_as_its_process(instance, gone) -> None:
    alive, dead = begun(instance, os.getpid()), begun(instance, gone)
    assert process_of(instance, alive) == os.getpid()
    assert death_of(instance, alive) is None
    assert death_of(instance, dead) == f"its process (pid {gone}) has died"
    health = [instance.run_launcher.check_run_worker_health(run).status for run in (alive, dead)]
    assert health == [WorkerStatus.RUNNING, WorkerStatus.FAILED]


def test_a_process_that_nobody_has_buried_is_dead(instance) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    run = begun(instance, process.pid)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert death_of(instance, run) is not None
    process.wait()


def test_another_process_with_the_same_number_is_not_the_run(instance, monkeypatch) -> None:
    run = begun(instance, os.getpid())
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 60)
    assert death_of(instance, run) is not None


def test_a_run_that_names_no_process_has_a_minute(instance, monkeypatch) -> None:
    run = begun(instance, None)
    assert death_of(instance, run) is None
    assert process_of(instance, run) is None
    monkeypatch.setattr(launcher, "YOUNG", -1.0)
    assert death_of(instance, run) == "it never said which process it is"


def test_the_dead_are_marked_and_their_places_given_back(instance, gone) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    dead = begun(instance, gone)
    assert storage.claim_concurrency_slot("gpu", dead.run_id, "train").is_claimed
    alive = begun(instance, os.getpid())
    assert not storage.claim_concurrency_slot("gpu", alive.run_id, "train").is_claimed
    assert bury_dead_runs(instance) == [dead.run_id]
    assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.get_run_by_id(alive.run_id).status == STARTED
    assert storage.claim_concurrency_slot("gpu", alive.run_id, "train").is_claimed
    assert bury_dead_runs(instance) == []


def test_runs_that_have_not_begun_and_those_that_ended_are_left_alone(instance, gone) -> None:
    kinds = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED]
    runs = [begun(instance, gone, kind) for kind in kinds]
    assert bury_dead_runs(instance) == []
    assert [instance.get_run_by_id(run.run_id).status for run in runs] == kinds
