"""A job and a schedule per stream."""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from st_pipeline.streams import Stream


def stream_job(stream: Stream) -> UnresolvedAssetJobDefinition:
    """All assets of the stream but those on request, one period a run."""
    own = dg.AssetSelection.key_prefixes([stream.name])  # the group on request of one stream can be another's name
    return dg.define_asset_job(
        f"{stream.name}_period",
        selection=dg.AssetSelection.groups(stream.name) & own,
        description=f"Everything of one period of {stream.name}. In order: a model continues its previous period.",
    )


def why_frozen(stream: Stream) -> str | None:
    """Why nothing is to be learned at present; None where learning goes on."""
    from st_pipeline.forecasting.serving import serving

    found = serving(stream.config)
    if not found.frozen:
        return None
    last = next(event for event in reversed(found.history) if event.action == "freeze").row()
    reason = f": {last['reason']}" if last["reason"] else ""
    return (
        f"{stream.name} is frozen by {last['by']} since {last['when']}{reason}; {found.champion} serves on, "
        f"`st-pipeline unfreeze {stream.name}` lets it learn again"
    )


def stream_schedule(stream: Stream, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Runs the newest complete period shortly after it ends; off until it is switched on."""
    calendar = stream.config.calendar

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if frozen := why_frozen(stream):
            return dg.SkipReason(frozen)
        now = context.scheduled_execution_time or datetime.now(UTC)
        done = [period for period in calendar.periods(now) if period.end <= now]
        if not done:
            return dg.SkipReason(f"no period of {stream.name} is complete yet")
        key = dg.AssetKey([stream.name, "report"])
        if done[-1].key in context.instance.get_materialized_partitions(key):
            return dg.SkipReason(f"period {done[-1].key} of {stream.name} has its report already")
        return dg.RunRequest(run_key=f"{stream.name}-{done[-1].key}", partition_key=done[-1].key)

    cron = calendar.cadence.cron(calendar.first).split()
    return dg.ScheduleDefinition(
        name=f"{stream.name}_newest_period",
        job=job,
        cron_schedule=" ".join(["30", "1", *cron[2:]]),
        execution_timezone=calendar.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        execution_fn=evaluate,
        description=f"Runs the newest complete period of {stream.name}.",
    )
