"""Retries that Dagster promised and lost.

Dagster stores a run's failure first and the run's new status afterwards. Where its daemon reads the failure in
between, it takes the run for one that goes on, and never looks again; a backfill then waits for the promised retry for
ever. Nor does a daemon that starts for the first time see failures from before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, BACKFILL_ID_TAG, WILL_RETRY_TAG

PATIENCE = timedelta(seconds=30)  # that the daemon has to keep a promise; it looks every five
MEMORY = timedelta(days=2)  # after which a promise is void
RECALLED = "st_pipeline/recalled"
MOST = 3  # times that the daemon is made to look again


@dg.sensor(
    name="lost_retries",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the daemon look again at dead runs whose retry it promised and did not start.",
)
def lost_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    recalled = recall_lost_retries(context.instance)
    return dg.SkipReason(f"looked again at {', '.join(recalled)}" if recalled else "no retry is lost")


def recall_lost_retries(instance: dg.DagsterInstance) -> list[str]:
    """Set the daemon's place in the event log back to before the failures it passed over; returns the runs' ids.

    It starts no run twice: one whose retry exists is left alone.
    """
    from dagster._daemon.auto_run_reexecution.event_log_consumer import _create_cursor_key

    failure = dg.DagsterEventType.RUN_FAILURE
    lost = {run.run_id: run for run in _promised(instance) if not _is_void(instance, run)}
    if not lost:
        return []
    events = instance.event_log_storage.get_logs_for_all_runs_by_log_id(dagster_event_type={failure})
    places = [place for place, entry in events.items() if entry.run_id in lost]
    if not places:
        return []
    for run in lost.values():
        instance.add_run_tags(run.run_id, {RECALLED: str(_recalls(run) + 1)})
    instance.daemon_cursor_storage.set_cursor_values({_create_cursor_key(failure): str(min(places) - 1)})
    return list(lost)


def _promised(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Failed runs with a promise that is neither new nor void."""
    now = datetime.now(UTC)
    wanted = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=now - MEMORY,
        updated_before=now - PATIENCE,
    )
    return list(instance.get_runs(wanted))


def _is_void(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the retry exists, cannot be, is of a backfill that is over, or was asked for often enough."""
    if AUTO_RETRY_RUN_ID_TAG in run.tags or run.remote_job_origin is None or _recalls(run) >= MOST:
        return True
    if (name := run.tags.get(BACKFILL_ID_TAG)) is None:
        return False
    backfill = instance.get_backfill(name)
    return backfill is None or backfill.status in BULK_ACTION_TERMINAL_STATUSES


def _recalls(run: dg.DagsterRun) -> int:
    return int(run.tags.get(RECALLED, "0"))
