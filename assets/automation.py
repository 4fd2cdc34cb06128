"""New data picked up by itself: a sensor per stream."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.alerts import tell_of_files
from assets.jobs import only_missing
from resources.catch_up import STAGE, STEP, CatchUp, Step, Wait
from resources.source import open_source
from st_pipeline.errors import InputError
from st_pipeline.landing.watch import Watch, look_again
from st_pipeline.storage import lake
from st_pipeline.streams import Stream

STREAM = "st_pipeline/stream"


def new_data_sensor(stream: Stream, job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """`<stream>_new_data`: watches the raw files and asks for runs of the periods they touch, in order."""
    automation = stream.config.automation

    @dg.sensor(
        name=f"{stream.name}_new_data",
        job=job,
        minimum_interval_seconds=round(automation.look_every.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING if automation.new_data else dg.DefaultSensorStatus.STOPPED,
        description=f"Runs the periods of {stream.name} that new or changed raw files touch, one after the other.",
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        watch, waiting = look_again(stream, open_source(stream), lake(), Watch.load(context.cursor))
        tell_of_files(stream, watch.fault)
        step: Step | Wait | None = Wait(waiting) if waiting else None
        repository = context.repository_def
        assert repository is not None
        if not waiting:
            try:
                watch, step = CatchUp(stream, context.instance, repository.asset_graph).next(watch)
            except InputError as error:  # what is stored of the stream is damaged
                step = Wait(str(error))
        if isinstance(step, Step):
            request = _request(step, stream, repository)
            return dg.SensorResult(run_requests=[request], cursor=watch.dump())
        return dg.SensorResult(skip_reason=_reason(watch, step), cursor=watch.dump())

    return new_data


def _request(step: Step, stream: Stream, repository: dg.RepositoryDefinition) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=step.name,
        partition_key=step.period,
        asset_selection=list(step.keys),
        run_config=only_missing(step.keys, repository.assets_defs_by_key),
        tags={STEP: step.name, STAGE: step.stage, STREAM: stream.name},
    )


def _reason(watch: Watch, step: Wait | None) -> str:
    """What the sensor says when it asks for nothing."""
    old = f"; {', '.join(watch.deferred)} changed too and wait for `st-pipeline run` (see `st-pipeline plan`)"
    return (step.reason if step else "nothing is new") + (old if watch.deferred else "")
