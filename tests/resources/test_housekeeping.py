"""Housekeeping: what goes, what stays, and that nothing is stale or lost to the UI afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from resources.event_log import EventLog, reading
from resources.housekeeping import Item, Limits, compact_instance, in_use, plan, summary, tidy
from resources.instance import open_instance
from st_pipeline.errors import InputError

ALL = Limits(runs=0, logs=0, states=0)
PERIODS = ["2024-01-01", "2024-01-08"]
RunSmall = Callable[[], Any]


def facts(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What anybody asks Dagster about assets: newest records by partition, and whether they are stale."""
    from st_pipeline.definitions import build

    graph = build().get_repository_def().asset_graph
    stale = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    found: dict[str, Any] = {}
    for key in graph.materializable_asset_keys:
        if key.path[0] != "small":
            continue
        for period in PERIODS if graph.get(key).is_partitioned else [None]:
            wanted = dg.AssetRecordsFilter(key, asset_partitions=[period] if period else None)
            records = instance.fetch_materializations(wanted, limit=1).records
            newest = records[0] if records else None
            status = stale.get_status(key, period)
            found[f"{key} {period}"] = (status, newest and (newest.storage_id, newest.event_log_entry))
    return found


def files(folder: Path, *, but: str = "dagster") -> dict[str, tuple[bytes, float]]:
    """Content and time of every file but those in one folder, and but what SQLite keeps beside a database."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).parts[0] != but and not file.name.endswith(("-shm", "-wal"))
    }


def tidied(limits: Limits = ALL) -> list[Item]:
    with open_instance() as instance:
        items = plan(instance, limits)
        tidy(items)
    return items


def kinds(items: list[Item]) -> set[str]:
    return {item.kind for item in items}


def test_nothing_is_stale_and_no_record_is_lost(lived_in: Any, run_small: RunSmall) -> None:
    with open_instance() as instance:
        before = facts(instance)
    assert {status for status, _ in before.values()} >= {StaleStatus.FRESH}
    lake = files(lived_in.home)
    items = tidied()
    assert "logs of runs" in kinds(items)
    with open_instance() as instance:
        assert facts(instance) == before
    assert files(lived_in.home) == lake
    assert run_small().materialised == []


def test_results_that_were_made_again_lose_their_old_records_only(lived_in: Any, run_small: RunSmall) -> None:
    (lived_in.home / "lake/small/online/backbone/2024-01-08.safetensors").unlink()
    assert "small/online/backbone of 2024-01-08" in run_small().materialised
    lived_in.change("small", "2024-01-08", flow=_more())
    assert run_small().ok
    with open_instance() as instance:
        before, runs = facts(instance), instance.get_runs_count()
    items = tidied()
    assert {"records", "runs"} & kinds(items)
    with open_instance() as instance:
        assert facts(instance) == before
        assert instance.get_runs_count() == runs - sum(item.kind == "runs" for item in items)
    assert run_small().materialised == []
    assert kinds(tidied()) <= {"compute logs", "runs", "logs of runs"}


def _more() -> Any:
    import polars as pl

    return pl.col("flow") + 1


def test_a_record_that_newer_results_refer_to_is_kept(lived_in: Any) -> None:
    """Made again with the same content: what was made from the first is fresh because that record is there."""
    with open_instance() as instance:
        (record,) = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(["small", "readings"]), asset_partitions=[PERIODS[0]]), limit=1
        ).records
        assert record.asset_materialization is not None
        instance.report_runless_asset_event(record.asset_materialization)
        before = facts(instance)
        rows = EventLog(lived_in.home / "dagster/history/runs").superseded(time.time() + 1)
        assert record.storage_id not in [row.id for row in rows]
    tidied()
    with open_instance() as instance:
        after = facts(instance)
    assert {name: status for name, (status, _) in after.items()} == {name: one for name, (one, _) in before.items()}


def test_deleting_a_run_the_plain_way_would_lose_them(lived_in: Any) -> None:
    """Why the index is looked at: Dagster's own deletion takes the records with it."""
    with open_instance() as instance:
        before = facts(instance)
        for run in instance.get_runs():
            instance.delete_run(run.run_id)
        after = facts(instance)
    lost = [name for name, (_, record) in before.items() if record and after[name][1] is None]
    assert len(lost) == sum(record is not None for _, record in before.values()) > 0


def test_an_old_run_keeps_its_course(lived_in: Any) -> None:
    with open_instance() as instance:
        run = instance.get_runs()[0].run_id
        stats, whole = instance.get_run_stats(run), len(instance.all_logs(run))
    begin = stats.start_time, stats.end_time, stats.steps_succeeded
    tidied()
    with open_instance() as instance:
        stats = instance.get_run_stats(run)
        assert (stats.start_time, stats.end_time, stats.steps_succeeded) == begin
        assert 0 < len(instance.all_logs(run)) < whole
        assert instance.get_run_by_id(run) is not None


def test_young_things_stay(lived_in: Any) -> None:
    with open_instance() as instance:
        assert plan(instance, Limits()) == []


def test_a_plan_changes_nothing(lived_in: Any) -> None:
    (lived_in.home / "lake/.left.parquet.abc.tmp").write_bytes(b"x")
    with open_instance() as instance:
        before = files(lived_in.home, but="none")
        assert plan(instance, ALL, now=time.time() + 2 * 86400)
    assert files(lived_in.home, but="none") == before


def test_runs_that_go_on_and_those_of_open_backfills_stay(lived_in: Any) -> None:
    with open_instance() as instance:
        going = instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED)
        items = plan(instance, ALL)
    assert going.run_id not in {item.name for item in items}


def _job() -> dg.JobDefinition:
    @dg.job
    def nothing() -> None: ...

    return nothing


def test_states_of_stored_trainings_go_and_those_in_use_stay(lived_in: Any) -> None:
    from st_pipeline.training.claims import claimed

    stored = (lived_in.home / f"lake/small/online/backbone/{PERIODS[0]}.safetensors").stat().st_mtime
    old, newer = stored - 100, stored + 100
    for period, at in ((PERIODS[0], old), (PERIODS[1], newer), ("2024-01-15", old)):
        file = lived_in.home / "resume/small/online" / period / "1.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"state")
        for path in (file, file.parent):
            os.utime(path, (at, at))
    items = plan(None, Limits())
    assert [item.name for item in items] == [f"small/online of {PERIODS[0]}"], "the others are not stored"
    folder = lived_in.home / "resume/small/online"
    with claimed(folder / f"{PERIODS[0]}.lock", what="a training", run="r"):
        tidy(items)
    assert (folder / PERIODS[0] / "1.safetensors").exists(), "somebody is training on it"
    tidy(items)
    assert not (folder / PERIODS[0]).exists() and (folder / PERIODS[1]).exists()


def test_leftovers_go_after_an_hour(lived_in: Any) -> None:
    file = lived_in.home / "lake" / "small" / ".x.parquet.0123.tmp"
    file.write_bytes(b"half")
    assert plan(None, Limits()) == []
    items = plan(None, Limits(), now=time.time() + 3700)
    assert [(item.kind, item.bytes) for item in items] == [("temporary files", 4)]
    tidy(items)
    assert not file.exists()


def test_what_deleted_runs_leave_goes(lived_in: Any) -> None:
    with open_instance() as instance:
        run = instance.get_runs()[-1].run_id
        instance.delete_run(run)
        log = EventLog(lived_in.home / "dagster/history/runs")
        assert log.database(run).exists(), "Dagster lets it lie"
    items = tidied()
    assert ("orphans", run) in {(item.kind, item.name) for item in items}
    assert not log.database(run).exists()


def test_compaction_waits_for_a_server(lived_in: Any) -> None:
    with open_instance() as instance:
        assert in_use(instance) is None
        tidy(plan(instance, ALL))
        assert compact_instance(instance) is None
        with reading(lived_in.home / "dagster/history/runs/index.db") as index:
            assert index.execute("PRAGMA freelist_count").fetchone() == (0,)
            assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        _beat(instance)
        assert compact_instance(instance) == in_use(instance) == "a server is running"


def _beat(instance: dg.DagsterInstance) -> None:
    from dagster._daemon.types import DaemonHeartbeat

    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "id"))


def test_the_job_does_the_same(lived_in: Any, run_small: RunSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.housekeeping import housekeeping_job

    for name in ("RUNS", "LOGS", "STATES"):
        monkeypatch.setenv(f"ST_PIPELINE_KEEP_{name}", "0")
    with open_instance() as instance:
        assert housekeeping_job.execute_in_process(instance=instance).success
        assert not kinds(plan(instance, ALL)) - {"runs", "logs of runs", "compute logs"}, "its own only"
    assert run_small().materialised == []
    assert not list((lived_in.home / "dagster").rglob("tidy_home/*")), "nothing is pickled"


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1e9"])
def test_days_that_are_no_days(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ST_PIPELINE_KEEP_LOGS", text)
    with pytest.raises(InputError, match=r"ST_PIPELINE_KEEP_LOGS is .*expected a number of days, e\.g\. 14"):
        Limits.from_environment()


def test_every_kind_has_a_row() -> None:
    rows = summary([Item("orphans", "a", 3, bool), Item("orphans", "b", 4, bool)])
    assert {row["kind"]: (row["count"], row["bytes"]) for row in rows}["orphans"] == (2, 7)
    assert sum(row["count"] for row in rows) == 2


def test_a_damaged_index_is_one_sentence(lived_in: Any) -> None:
    with open_instance() as instance:
        (lived_in.home / "dagster/history/runs/index.db").write_bytes(b"x" * 5000)
        with pytest.raises(InputError, match="databases cannot be read"):
            plan(instance, ALL)
