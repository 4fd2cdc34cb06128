"""Sensors that tell people: of runs that ended, and of what the results show."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from resources.failures import sentence
from resources.source import open_source
from st_pipeline.alerts.book import Book, Finding
from st_pipeline.alerts.channels import Channel, channels_from_environment
from st_pipeline.alerts.heartbeat import beat
from st_pipeline.alerts.review import REVIEWED, review, review_home
from st_pipeline.errors import InputError
from st_pipeline.storage import lake
from st_pipeline.streams import Stream, load_streams

EVERY = 60  # seconds
Status = dg.DagsterRunStatus


def open_book() -> tuple[Book, list[Finding]]:
    """The book with the channels that the environment sets up, and what is wrong with those."""
    channels: list[Channel] = []
    faults: list[Finding] = []
    try:
        channels = channels_from_environment()
    except InputError as error:
        faults = [Finding("alert_channels", "environment", "critical", str(error))]
    return Book(channels), faults


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks at scores, sensors, raw files and the disk, tells people, and leaves a sign of life.",
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    beat()
    book, found = open_book()
    found += review_home()
    streams, _ = load_streams()
    unseen = []
    for stream in streams:
        try:
            found += review(stream, open_source(stream), lake())
        except InputError as error:
            unseen.append(stream.name)
            context.log.warning(str(error))
    told = book.tell(found, lambda key: _is_over(key, unseen))
    left = book.deliver()
    return dg.SkipReason(f"{len(book.open())} open, {len(told)} told, {left} to be delivered again")


def _is_over(key: str, unseen: Sequence[str]) -> bool:
    """Whether this review would have found an alert again if it still held."""
    rule, _, subject = key.partition(":")
    return rule in (*REVIEWED, "alert_channels", "daemon_down") and subject not in unseen


def run_sensor(status: Status, name: str, doing: str) -> dg.SensorDefinition:
    """A sensor that tells of runs that ended so."""

    @dg.run_status_sensor(
        run_status=status,
        name=name,
        minimum_interval_seconds=EVERY // 2,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=doing,
    )
    def told(context: dg.RunStatusSensorContext) -> None:
        found, good = of_run(context.instance, context.dagster_run)
        book, _ = open_book()
        book.tell(found, lambda key: key in good)
        book.deliver()

    return told


def run_sensors() -> list[dg.SensorDefinition]:
    """One sensor for runs that failed, one for those that resolve what failed before."""
    return [
        run_sensor(Status.FAILURE, "alerts_of_failed_runs", "Tells of failed runs and failed asset checks."),
        run_sensor(Status.SUCCESS, "alerts_of_good_runs", "Tells of failed checks, and what a good run resolves."),
    ]


def of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[list[Finding], set[str]]:
    """What a run that ended found wrong, and the keys of the alerts that it resolves."""
    found: list[Finding] = []
    good: set[str] = set()
    wanted = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    wanted |= {dg.DagsterEventType.ASSET_MATERIALIZATION}
    reasons: dict[str, str] = {}
    for entry in instance.all_logs(run.run_id, of_type=wanted):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            finding = _of_check(check, run)
            (good.add(finding.key) if check.passed else found.append(finding))
        elif event.is_step_failure:
            reasons[str(event.step_key)] = sentence(event)
        elif event.step_key:
            good.add(f"run_failed:{_subject(str(event.step_key), run)}")
    for step, reason in reasons.items():
        text = f"{step} failed{_of_period(run)} in run {run.run_id}: {reason}"
        found.append(Finding("run_failed", _subject(step, run), "critical", text))
    if run.status == Status.FAILURE and not reasons:
        text = f"run {run.run_id} of {run.job_name}{_of_period(run)} failed before or between its steps."
        found.append(Finding("run_failed", f"run/{run.root_run_id or run.run_id}", "critical", text))
    if run.status == Status.SUCCESS:
        good.add(f"run_failed:run/{run.root_run_id or run.run_id}")
    return found, good


def _of_check(check: dg.AssetCheckEvaluation, run: dg.DagsterRun) -> Finding:
    subject = f"{'/'.join(check.asset_key.path)}/{check.check_name}{'/' + p if (p := _period(run)) else ''}"
    severity = "critical" if check.severity == dg.AssetCheckSeverity.ERROR else "warning"
    text = f"check {check.check_name} of {'/'.join(check.asset_key.path)}{_of_period(run)}"
    return Finding("check_failed", subject, severity, f"{text} failed: {check.description or 'see the UI'}")  # type: ignore[arg-type]


def _subject(step: str, run: dg.DagsterRun) -> str:
    return f"{step}{'/' + p if (p := _period(run)) else ''}"


def _period(run: dg.DagsterRun) -> str:
    return run.tags.get("dagster/partition", "")


def _of_period(run: dg.DagsterRun) -> str:
    return f" of {p}" if (p := _period(run)) else ""


def tell_of_files(stream: Stream, fault: str) -> None:
    """Open or resolve the alert of raw files that cannot be read."""
    book, _ = open_book()
    key = f"raw_files:{stream.name}"
    if fault or any(alert["key"] == key for alert in book.open()):
        found = [Finding("raw_files", stream.name, "critical", fault)] if fault else []
        book.tell(found, lambda known: known == key)
        book.deliver()
