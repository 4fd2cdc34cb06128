"""One stream in operation: files arrive, are corrected and broken; sensors, `plan` and alerts look at the same runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from assets.alerts import of_run
from resources.instance import open_instance
from st_pipeline import streams as finding
from st_pipeline.cli import main
from st_pipeline.definitions import build
from st_pipeline.forecasting.scores import SCHEMA
from st_pipeline.storage import FRAME, dump_frame, lake

NAME = "small"
PERIODS = ["2024-01-01", "2024-01-08", "2024-01-15"]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Daemon:
    """Evaluates a stream's sensor and runs what it asks for, as Dagster's daemon does."""

    workspace: Any
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    cursors: dict[str, str | None] = field(default_factory=dict)
    runs: list[tuple[str | None, set[str]]] = field(default_factory=list)
    last: dg.DagsterRun | None = None

    def evaluate(self, stream: str = NAME) -> Any:
        """One evaluation; the cursor is kept as text, as Dagster does."""
        repository = self.definitions.get_repository_def()
        sensor = repository.get_sensor_def(f"{stream}_new_data")
        context = dg.build_sensor_context(self.instance, cursor=self.cursors.get(stream), repository_def=repository)
        found = sensor.evaluate_tick(context)
        self.cursors[stream] = found.cursor
        return found

    def tick(self) -> str:
        """One evaluation and its run; what it says, or `ran`."""
        found = self.evaluate()
        for request in found.run_requests or []:
            keys = list(request.asset_selection or [])
            done = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                partition_key=request.partition_key,
                asset_selection=keys,
                instance=self.instance,
                raise_on_error=False,
                tags={**request.tags, "dagster/run_key": request.run_key},
                run_config={**request.run_config, **QUIET},
            )
            self.last = self.instance.get_run_by_id(done.run_id)
            self.runs.append((request.partition_key, {"/".join(key.path[1:]) for key in keys}))
        return "ran" if found.run_requests else str(found.skip_message)

    def settle(self, most: int = 40) -> str:
        """Ticks until two in a row say the same and run nothing."""
        before = ""
        for _ in range(most):
            said = self.tick()
            if said == before != "ran":
                return said
            before = said
        raise AssertionError(f"still {before}")

    def periods_of(self, asset: str) -> list[str | None]:
        """Periods of an asset in the order of their runs."""
        return [period for period, names in self.runs if asset in names]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Daemon]:
    """Two periods that were there, and a third that arrived with late rows of the second; all of it has run."""
    space = make_workspace(tmp_path_factory.mktemp("operation"))
    space.streams.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "SHIPPED", space.folder / "none")
        for name, value in space.environment.items():
            patch.setenv(name, value)
        patch.chdir(space.folder)
        model = {"name": "online", "backbone": "stgnn", "strategy": "online", "training": {"epochs": 1}}
        space.landed_stream(NAME, models=[model], automation={"new_data": True})
        space.landed_stream("other", models=[model])
        last = space.raw(NAME, PERIODS[2])
        shutil.move(last, space.folder / "aside")
        with open_instance() as instance:
            made = Daemon(space, instance, build())
            made.settle()
            made.runs.append((None, {"dropped"}))
            shutil.copy(space.folder / "aside", last)
            made.settle()
            yield made


def plan(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["plan", NAME, "--json", *arguments])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_periods_run_in_order_and_later_ones_follow_what_came_late(daemon: Daemon) -> None:
    late, last = daemon.periods_of("online/backbone")[2:], daemon.runs[-1][1]
    assert daemon.periods_of("online/backbone")[:2] == PERIODS[:2]
    assert late == PERIODS[1:], "late rows: the second period is made anew, then the third on its result"
    assert last == {"leaderboard"}
    dropped = [names for _, names in daemon.runs].index({"dropped"})
    assert daemon.periods_of("raw_readings")[-2:] == PERIODS[1:]
    assert not any(period == PERIODS[0] for period, _ in daemon.runs[dropped:])


def test_each_model_was_trained_on_the_newest_result_before_it(daemon: Daemon) -> None:
    key = dg.AssetKey([NAME, "online", "backbone"])
    requests = [dg.AssetRecordsFilter(key, asset_partitions=[period]) for period in PERIODS]
    at = [daemon.instance.fetch_materializations(request, limit=1).records[0].timestamp for request in requests]
    assert at == sorted(at)


def test_nothing_is_behind_when_all_is_done(daemon: Daemon) -> None:
    assert daemon.settle() == "nothing is new"
    document = plan()
    assert (document["files"], document["rows"], document["stale"]) == ([], {}, [])


def test_a_restart_and_a_second_arrival_do_nothing(daemon: Daemon) -> None:
    count = len(daemon.runs)
    os.utime(daemon.workspace.raw(NAME, PERIODS[2]))
    assert daemon.settle() == "nothing is new"
    daemon.cursors.clear()
    assert daemon.settle() == "nothing is new"
    assert len(daemon.runs) == count


def test_a_corrected_row_of_an_early_period_is_planned_and_left_to_the_user(daemon: Daemon) -> None:
    path, count = daemon.workspace.raw(NAME, PERIODS[0]), len(daemon.runs)
    before = daemon.workspace.change(NAME, PERIODS[0], pl.col("flow") + 1)
    try:
        assert f"{PERIODS[0]} changed too" in daemon.settle()
        assert len(daemon.runs) == count
        document = plan()
        rows = {(row["asset"], row["period"]): row["why"] for row in document["stale"]}
        assert document["files"] == [f"raw/readings/{PERIODS[0]}.parquet"]
        assert list(document["rows"]) == [PERIODS[0]]
        came = document["rows"][PERIODS[0]]
        assert came["came"] == came["went"] > 100
        assert "rows came" in rows["raw_readings", PERIODS[0]]
        assert rows["readings", PERIODS[0]] == f"needs raw_readings of {PERIODS[0]}"
        assert ("raw_readings", PERIODS[1]) not in rows and ("readings", PERIODS[1]) not in rows
        for period in PERIODS:
            assert ("online/backbone", period) in rows and ("report", period) in rows
        ignore, rescore, recompute = document["options"]
        assert ignore["seconds"] == 0 < rescore["seconds"] < recompute["seconds"]
        assert rescore["partitions"] == recompute["partitions"] - len(PERIODS)
        assert recompute["what"] == f"st-pipeline run {NAME} --periods {PERIODS[0]}..{PERIODS[2]}"
        assert len(daemon.runs) == count and daemon.instance.get_runs_count() == count - 1, "one of the runs is a drop"
        shown = CliRunner().invoke(main, ["plan", NAME]).stdout
        assert "recompute from 2024-01-01 on" in shown and "online" in shown
    finally:
        path.write_bytes(before)
    assert "waits until" in daemon.tick()
    assert daemon.settle() == "nothing is new"


def test_a_file_that_cannot_be_read_is_told_and_stops_no_other_stream(daemon: Daemon) -> None:
    path = daemon.workspace.raw(NAME, PERIODS[2]).with_name("2024-01-22.parquet")
    path.write_bytes(b"no parquet")
    try:
        assert "2024-01-22.parquet: cannot be read as Parquet" in daemon.settle()
        shown = json.loads(CliRunner().invoke(main, ["alerts", "--json"]).stdout)["open"]
        assert [(alert["key"], alert["severity"]) for alert in shown] == [(f"raw_files:{NAME}", "critical")]
        daemon.evaluate("other")
        assert daemon.evaluate("other").run_requests
    finally:
        path.unlink()
    daemon.settle()
    assert json.loads(CliRunner().invoke(main, ["alerts", "--json"]).stdout)["open"] == []


def test_a_period_that_fails_the_gate_is_asked_for_once_and_told(daemon: Daemon) -> None:
    before = daemon.workspace.poison(NAME, PERIODS[2])
    path = daemon.workspace.raw(NAME, PERIODS[2])
    said = daemon.settle()
    count = len(daemon.runs)
    assert f"period {PERIODS[2]} waits: run" in said and "FAILURE" in said
    assert daemon.settle() == said
    assert len(daemon.runs) == count
    assert daemon.last is not None
    found, _ = of_run(daemon.instance, daemon.last)
    keys = {item.key for item in found}
    assert f"run_failed:{NAME}__readings/{PERIODS[2]}" in keys
    assert f"check_failed:{NAME}/readings/critical_expectations/{PERIODS[2]}" in keys
    assert any("out of range" in item.message for item in found)
    path.write_bytes(before)
    assert daemon.settle() == "nothing is new"
    again = [run for run in daemon.instance.get_runs() if dg.AssetKey([NAME, "readings"]) in run.asset_selection]
    _, good = of_run(daemon.instance, again[0])
    assert {item.key for item in found if item.severity == "critical"} <= good


def publish_scores(mae: float, coverage: float) -> None:
    """Scores of the newest week, the weekly naive forecast's error being 2."""
    days = pl.date_range(pl.date(2024, 1, 15), pl.date(2024, 1, 21), eager=True)
    frame = pl.DataFrame({"day": days}).with_columns(
        cohort=pl.lit("all"), mae=mae, naive_weekly_mae=2.0, coverage_90=coverage, cells=4, interval_cells=4
    )
    frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in frame)
    lake().write((NAME, "forecast_scores"), PERIODS[2], FRAME, dump_frame(frame.select(*SCHEMA).cast(SCHEMA)))


def test_forecasts_that_are_scored_badly_are_told(daemon: Daemon) -> None:
    publish_scores(mae=3.0, coverage=0.5)
    repository = daemon.definitions.get_repository_def()
    sensor, context = repository.get_sensor_def("alerts"), dg.build_sensor_context(daemon.instance)
    said = sensor.evaluate_tick(context).skip_message
    shown = {alert["rule"] for alert in json.loads(CliRunner().invoke(main, ["alerts", "--json"]).stdout)["open"]}
    assert {"below_naive", "coverage"} <= shown, said
    publish_scores(mae=1.0, coverage=0.9)
    sensor.evaluate_tick(context)
    assert json.loads(CliRunner().invoke(main, ["alerts", "--json"]).stdout)["open"] == []
    assert CliRunner().invoke(main, ["alerts", "--check"]).exit_code == 0


def test_a_dead_daemon_is_seen_from_outside(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["alerts", "--check", "--json"])
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["daemon"], document["open"][0]["rule"]) == ("down", "daemon_down")


def test_what_somebody_else_made_lets_a_failed_period_go_on(daemon: Daemon) -> None:
    daemon.workspace.poison(NAME, PERIODS[2])
    said = daemon.settle()
    assert daemon.last is not None and daemon.last.run_id in said
    for key in daemon.last.asset_selection or ():
        daemon.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=PERIODS[2]))
    found = daemon.evaluate()
    assert [request.partition_key for request in found.run_requests] == [PERIODS[2]]
    assert dg.AssetKey([NAME, "online", "backbone"]) in found.run_requests[0].asset_selection
