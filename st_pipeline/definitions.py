"""Composition root: streams + assets + checks + resources + jobs -> the one Dagster code location."""

from __future__ import annotations

import warnings

import dagster as dg

from assets.alerts import alerts, run_sensors
from assets.automation import new_data_sensor
from assets.housekeeping import housekeeping_job, housekeeping_schedule
from assets.jobs import forecast_schedule, stream_job, stream_schedule
from assets.stream import assets_or_fault, fault_assets
from checks.forecasts import forecast_checks
from checks.gate import ExpectationGate
from checks.results import result_checks
from resources.compute import ComputeResource
from resources.duckdb import DuckDBResource
from resources.executors import executor
from resources.lake import io_managers
from resources.pools import wait_asleep
from resources.retries import lost_retries
from resources.source import SourceResource
from st_pipeline.streams import StreamFault, load_streams

for kind in (dg.PreviewWarning, dg.BetaWarning):  # partitioned checks, data versions: tested on the pinned version
    warnings.filterwarnings("ignore", category=kind)


def build() -> dg.Definitions:
    """Everything that the streams found now define; a stream that cannot be built is shown as broken."""
    streams, faults = load_streams()
    assets: list[dg.AssetsDefinition] = []
    checks: list[dg.AssetChecksDefinition] = []
    jobs, schedules = [], []
    sensors = [lost_retries, alerts, *run_sensors()]
    for stream in streams:
        made = assets_or_fault(stream)
        if isinstance(made, StreamFault):
            faults.append(made)
            continue
        job = stream_job(stream)
        assets += made
        checks += result_checks(stream) + forecast_checks(stream)
        jobs.append(job)
        sensors.append(new_data_sensor(stream, job))
        schedules.append(stream_schedule(stream, job))
        schedules += [schedule] if (schedule := forecast_schedule(stream, made)) else []
    return dg.Definitions(
        assets=[*assets, *fault_assets(faults)],
        asset_checks=checks,
        jobs=[*jobs, housekeeping_job],
        schedules=[*schedules, housekeeping_schedule],
        sensors=sensors,
        resources={
            **io_managers(),
            "source": SourceResource(),
            "compute": ComputeResource(),
            "duckdb": DuckDBResource(),
            "gate": ExpectationGate(),
        },
        executor=executor(),
    )


wait_asleep()
defs = build()
