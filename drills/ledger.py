"""Whether files, event log and what commands said of themselves tell the same story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import dagster as dg

from drills.place import Place

LOCKS = ("database is locked", "Conflicting lock", "database table is locked", "disk I/O error")
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
MOST = 10_000  # records of an asset; Dagster gives no more at a time


def faults_of(
    instance: dg.DagsterInstance, place: Place, claimed: Mapping[str, int], *, dead: int = 0, tidied: bool = False
) -> tuple[int, list[str]]:
    """The number of materialisations in the event log, and what is wrong.

    Runs that did not succeed, locks that somebody ran into, materialisations that only the run's own log or only the
    index has, that a command claimed and nobody recorded, and files that no record describes.

    Args:
        claimed: `ASSET of PERIOD` -> how often commands said that they made it.
        dead: runs that may have failed, since their process was killed.
        tidied: `gc` has taken materialisations out of the logs of runs, which are not compared then.
    """
    index, newest = _index(instance)
    faults = [
        *_of_runs(instance, dead),
        *([] if tidied else _of_logs(instance, index)),
        *_of_locks(place),
        *_of_files(place, newest),
    ]
    recorded = Counter(name for _, name in index.elements())
    for name, times in claimed.items():
        if recorded[name] < times:
            faults.append(f"{name}: made {times} times, recorded {recorded[name]} times")
    return index.total(), faults


def _index(instance: dg.DagsterInstance) -> tuple[Counter[tuple[str, str]], dict[str, int]]:
    """How often each run recorded each asset and period, and the bytes that the newest record of each names."""
    found: Counter[tuple[str, str]] = Counter()
    newest: dict[str, int] = {}
    for key in instance.all_asset_keys():
        for record in instance.fetch_materializations(key, limit=MOST).records:
            made = record.asset_materialization
            assert made is not None
            name = _name("/".join(key.path), made.partition)
            found[record.run_id, name] += 1
            if name not in newest:
                newest[name] = int(str(made.metadata["bytes"].value))
    return found, newest


def _of_runs(instance: dg.DagsterInstance, dead: int) -> Iterator[str]:
    for run in instance.get_runs():
        if run.status != dg.DagsterRunStatus.SUCCESS and (dead := dead - 1) < 0:
            yield f"run {run.run_id} of {run.job_name} is {run.status.value}: {_reason(instance, run)}"


def _of_logs(instance: dg.DagsterInstance, index: Counter[tuple[str, str]]) -> Iterator[str]:
    own: Counter[tuple[str, str]] = Counter()
    for run in instance.get_runs():
        for entry in instance.all_logs(run.run_id, of_type=MADE):
            made = entry.dagster_event.step_materialization_data.materialization if entry.dagster_event else None
            if made:
                own[run.run_id, _name("/".join(made.asset_key.path), made.partition)] += 1
    for run_id, name in (own - index).keys() | (index - own).keys():
        yield f"{name}: run {run_id} has it {own[run_id, name]} times, the index {index[run_id, name]} times"


def _reason(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        error = entry.dagster_event.step_failure_data.error if entry.dagster_event else None
        while error is not None and error.cause is not None:
            error = error.cause
        return " ".join(error.message.split())[:600] if error else entry.user_message
    return "no step failed"


def _of_locks(place: Place) -> Iterator[str]:
    for file in (place.folder / "log", *place.home.rglob("*.err")):
        text = file.read_text(errors="replace") if file.is_file() else ""
        yield from (f"{file.name}: {text.count(word)} times {word!r}" for word in LOCKS if word in text)


def _of_files(place: Place, newest: Mapping[str, int]) -> Iterator[str]:
    root = place.home / "lake"
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        folder, whole = file.parent.relative_to(root), file.relative_to(root).with_suffix("")
        name = _name(str(folder), file.stem) if _name(str(folder), file.stem) in newest else str(whole)
        beside = [other for other in file.parent.glob(f"{file.stem}.*") if other != file]
        if file.suffix == ".json" and beside:
            continue  # a description for people, which comes with its file
        if name not in newest:
            yield f"{file}: no record tells of it"
        elif newest[name] != file.stat().st_size:
            yield f"{file}: {file.stat().st_size} bytes; its newest record says {newest[name]}"


def _name(asset: str, period: str | None) -> str:
    return f"{asset} of {period}" if period else asset
