"""Runs whose process has died: how they are known, and how their places are given back.

Dagster's own launcher of local processes cannot tell whether a run's process is still there. After a power cut, or when
the daemon is killed with everything it started, such runs would count as running for ever.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg
import psutil
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher

SLACK = 2.0  # seconds by which the clocks of events and processes may differ
YOUNG = 60.0  # seconds that a run has to say which process it is
BEGUN = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's launcher, which also tells whether a run's process on this machine is still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        problem = death_of(self._instance, run)
        return CheckRunHealthResult(WorkerStatus.FAILED if problem else WorkerStatus.RUNNING, problem)


def death_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Why a run that has begun is dead; None while its process is there."""
    logs = instance.all_logs(run.run_id, of_type={dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.RUN_START})
    known = _named(logs)
    if known is None:
        since = logs[-1].timestamp if logs else 0.0
        return "it never said which process it is" if time.time() - since > YOUNG else None
    pid, said = known
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= said + SLACK
    except psutil.NoSuchProcess:
        alive = False
    return None if alive else f"its process (pid {pid}) has died"


def bury_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process has died as failed, and give back the places that ended runs hold; returns their ids."""
    dead = []
    for run in instance.get_runs(dg.RunsFilter(statuses=BEGUN)):
        if problem := death_of(instance, run):
            instance.report_run_failed(run, f"The run is over: {problem}.")
            dead.append(run.run_id)
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        for holder in storage.get_concurrency_run_ids():
            known = instance.get_run_by_id(holder)
            if known is None or known.is_finished:
                storage.free_concurrency_slots_for_run(holder)
    return dead


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    """The process that a run said it is."""
    known = _named(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT))
    return known[0] if known else None


def _named(logs: Sequence[dg.EventLogEntry]) -> tuple[int, float] | None:
    """The process that the last event of executor or launcher names, and when."""
    for entry in reversed(logs):
        event = entry.dagster_event
        if event is not None and event.is_engine_event and (said := event.engine_event_data.metadata.get("pid")):
            return int(str(said.value)), entry.timestamp
    return None
