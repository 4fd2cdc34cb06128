"""Jobs and schedules of each stream."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from resources.stages import FORECASTS
from st_pipeline.alerts.review import forecast_cadence
from st_pipeline.forecasting.serving import why_frozen
from st_pipeline.streams import Stream

ONLY_MISSING = "only_missing"  # option of `forecast`: issued forecasts stay
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def stream_job(stream: Stream) -> UnresolvedAssetJobDefinition:
    """All assets of the stream but those on request, one period a run."""
    own = dg.AssetSelection.key_prefixes([stream.name])  # the group on request of one stream can be another's name
    return dg.define_asset_job(
        f"{stream.name}_period",
        selection=dg.AssetSelection.groups(stream.name) & own,
        description=f"Everything of one period of {stream.name}. In order: a model continues its previous period.",
    )


def stream_schedule(stream: Stream, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Runs the newest complete period shortly after it ends; off until it is switched on."""
    calendar = stream.config.calendar

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if frozen := why_frozen(stream.config):
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
        default_status=_status(stream),
        execution_fn=evaluate,
        description=f"Runs the newest complete period of {stream.name}.",
    )


def forecast_schedule(stream: Stream, made: Collection[dg.AssetsDefinition]) -> dg.ScheduleDefinition | None:
    """Issues forecasts by itself, as `forecast_cadence` says; None for a stream without forecasts or cadence."""
    every = forecast_cadence(stream)
    chosen = {key: asset for asset in made for key in asset.keys if key.path[0] == stream.name}
    keys = [key for key in chosen if key.path[-1] in FORECASTS]
    if every is None or dg.AssetKey([stream.name, "forecast"]) not in keys:
        return None
    job = dg.define_asset_job(f"{stream.name}_forecasts", selection=dg.AssetSelection.assets(*keys))

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        landed = context.instance.get_materialized_partitions(dg.AssetKey([stream.name, "tensor"]))
        if not landed:
            return dg.SkipReason(f"{stream.name} has no period to forecast from yet")
        return dg.RunRequest(partition_key=max(landed), run_config=only_missing(keys, chosen))

    return dg.ScheduleDefinition(
        name=f"{stream.name}_forecasts",
        job=job,
        cron_schedule=cron_of(every),
        default_status=_status(stream),
        execution_fn=evaluate,
        description=f"Issues the forecasts of {stream.name} that are due, and scores those whose truth arrived.",
    )


def only_missing(keys: Collection[dg.AssetKey], made: Mapping[dg.AssetKey, dg.AssetsDefinition]) -> dict[str, Any]:
    """Run configuration that leaves issued forecasts alone, where the run makes forecasts."""
    ops = {}
    for key in keys:
        node = made[key].node_def if key in made and key.path[-1] == "forecast" else None
        schema = node.config_schema.config_type if node and node.config_schema else None
        if node and ONLY_MISSING in getattr(schema, "fields", {}):
            ops[node.name] = {"config": {ONLY_MISSING: True}}
    return {"ops": ops} if ops else {}


def cron_of(every: timedelta) -> str:
    """The cron expression that ticks so often, rounded to what cron can say: parts of an hour or a day, or days."""
    if every < HOUR:
        return f"*/{max(1, round(every / MINUTE))} * * * *"
    return f"0 */{round(every / HOUR)} * * *" if every < DAY else "0 0 * * *"


def _status(stream: Stream) -> dg.DefaultScheduleStatus:
    running = stream.config.automation.schedules
    return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
