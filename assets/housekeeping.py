"""The daily housekeeping: a job and a schedule."""

import dagster as dg

from resources.housekeeping import Limits, plan, summary, tidy


@dg.op(description="Removes old runs and logs, states of stored trainings and leftovers, as `st-pipeline gc` does.")
def tidy_home(context: dg.OpExecutionContext) -> None:
    items = plan(context.instance, Limits.from_environment())
    tidy(items)
    context.add_output_metadata({row["kind"]: row["count"] for row in summary(items)})


@dg.job(
    name="housekeeping",
    executor_def=dg.in_process_executor,
    description="Keeps the home small; results and the newest records are never touched.",
)
def housekeeping_job() -> None:
    tidy_home()


housekeeping_schedule = dg.ScheduleDefinition(
    name="housekeeping_daily",
    job=housekeeping_job,
    cron_schedule="17 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Once a day. Days: ST_PIPELINE_KEEP_RUNS, ST_PIPELINE_KEEP_LOGS, ST_PIPELINE_KEEP_STATES.",
)
