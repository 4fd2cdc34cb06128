"""`st-pipeline run` inside one process: what is materialised, in which order, and what is left alone.

One finished home is made once; every test works on a copy of it.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from resources.instance import open_instance
from resources.lake import lake
from resources.staleness import Staleness
from st_pipeline import streams as finding
from st_pipeline.cli.runner import Outcome, Runner, scope
from st_pipeline.definitions import build
from st_pipeline.errors import InputError
from st_pipeline.storage import FRAME
from st_pipeline.streams import find_stream
from st_pipeline.versions import VERSIONS

NAME = "tiny"
PERIODS = ["2024-01-01", "2024-01-08", "2024-01-15"]
SCORES = [f"{model}/{kind}" for model in ("eac", "online", "naive") for kind in ("evaluation", "losses")]
FORECASTS = ["forecast", "forecast_scores"]
TABLES = ["raw_readings", "edges", "readings", "drift", *SCORES, *FORECASTS, "eac/prompt_analysis", "eac/drill"]


class Place:
    """A workspace with the landed stream `tiny`, run in this process."""

    def __init__(self, space: Any) -> None:
        self.space = space

    def run(self, periods: str | None = None, models: str | None = None) -> Outcome:
        stream = find_stream(NAME)
        with open_instance() as instance:
            return Runner(stream, instance, build()).run(scope(stream, periods, models))

    def events(self) -> int:
        """Records in the event log of all runs."""
        with open_instance() as instance:
            return sum(len(instance.all_logs(run.run_id)) for run in instance.get_runs())

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        file = self.space.streams / NAME / "stream.yaml"
        document = yaml.safe_load(file.read_text())
        change(document)
        file.write_text(yaml.safe_dump(document, sort_keys=False))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[tuple[Path, Outcome]]:
    """A workspace in which everything has been made."""
    space = make_workspace(tmp_path_factory.mktemp("finished"))
    space.landed_stream(NAME)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in space.environment.items():
            patch.setenv(name, value)
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(finding, "SHIPPED", space.folder / "none")
        patch.chdir(space.folder)
        outcome = Place(space).run()
        yield space.folder, outcome


@pytest.fixture
def place(finished: tuple[Path, Outcome], workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of the finished workspace."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    shutil.copytree(finished[0], workspace.folder, dirs_exist_ok=True)
    return Place(workspace)


@pytest.fixture
def fresh(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The stream, and nothing made."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    workspace.landed_stream(NAME)
    return Place(workspace)


def names(*assets: str, periods: list[str] = PERIODS) -> set[str]:
    return {f"{NAME}/{asset} of {period}" for asset in assets for period in periods}


def test_everything_is_made_in_period_order(finished: tuple[Path, Outcome]) -> None:
    _, outcome = finished
    assert outcome.ok
    assert len(outcome.materialised) == len(set(outcome.materialised))
    periods = [name.split(" of ")[1] for name in outcome.materialised if " of " in name]
    assert periods == sorted(periods)
    assert outcome.materialised[:2] == [f"{NAME}/raw_files", f"{NAME}/sensors"]
    assert outcome.materialised[-1] == f"{NAME}/leaderboard"


def test_files_lie_where_the_architecture_says(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    found = {str(file.relative_to(folder / "home/lake")) for file in (folder / "home/lake").rglob("*.*")}
    expected = {f"{NAME}/{asset}.parquet" for asset in ("raw_files", "sensors", "leaderboard")}
    kinds = {**dict.fromkeys(TABLES, "parquet"), "node_set": "json", "advice": "json", "report": "html"}
    kinds |= dict.fromkeys(("tensor", "adjacency", "eac/backbone", "eac/prompt_pool", "online/backbone"), "safetensors")
    kinds |= dict.fromkeys(("eac/diagnostics", "online/diagnostics", "naive/diagnostics"), "json")
    expected |= {f"{NAME}/{asset}/{period}.{kind}" for asset, kind in kinds.items() for period in PERIODS}
    parts = ("eac/backbone", "eac/prompt_pool", "online/backbone")
    expected |= {f"{NAME}/{part}/{period}.json" for part in parts for period in PERIODS}
    assert found == expected


def test_no_pickle_and_no_duckdb_file_anywhere(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    files = [file for file in (folder / "home").rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in {".pkl", ".pickle", ".duckdb", ".pt", ".pth", ".ckpt"}]
    heads = {file: file.read_bytes()[:12] for file in files if file.suffix != ".safetensors"}  # begins with a length
    assert not [file for file, head in heads.items() if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"]
    assert not [file for file, head in heads.items() if b"DUCK" in head]


def test_a_second_run_does_nothing(place: Place) -> None:
    before = place.events()
    outcome = place.run()
    assert outcome.materialised == [] and outcome.ok
    assert place.events() == before


def test_a_second_run_imports_nothing_heavy(place: Place) -> None:
    code = (
        "import sys; from st_pipeline.cli import main\n"
        f"main(['run', '{NAME}'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'great_expectations', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    unasked = {"ST_PIPELINE_DEVICE": "", "ST_PIPELINE_THREADS": ""}  # a device that is asked for is looked for
    environment = {**os.environ, **place.space.environment, **unasked}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=place.space.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "nothing to do, everything is up to date" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_dagster_agrees_on_what_is_stale(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.edit(lambda document: document["models"][1]["training"].update(learning_rate=0.02))
    monkeypatch.setitem(VERSIONS, "drift", 99)
    place.space.change(NAME, PERIODS[1], pl.col("flow") * 1.5)
    assert only("raw_readings readings", PERIODS[1]).success
    with open_instance() as instance:
        graph = build().get_repository_def().asset_graph
        asked = Staleness(instance, graph, PERIODS)
        dagsters = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        for period in (*PERIODS, None):
            mine = [
                key
                for key in graph.get_all_asset_keys()
                if key.path[0] == NAME and graph.get(key).is_partitioned == (period is not None)
            ]
            stale = {key for key in mine if dagsters.get_status(key, period) != StaleStatus.FRESH}
            assert asked.of(mine, period) == stale
            found = {f"{'/'.join(key.path)} of {period}" for key in stale}
            if period:
                assert names("drift", "online/backbone", periods=[period]) <= found
            assert (names("tensor", periods=[str(period)]) <= found) == (period == PERIODS[1])


def test_the_same_content_made_by_hand_is_followed_by_nothing(place: Place) -> None:
    assert only("readings", PERIODS[1]).success
    assert place.run().materialised == []


def test_a_new_code_version_that_gives_the_same_content_runs_that_asset_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VERSIONS, "drift", 99)
    assert set(place.run().materialised) == names("drift")
    assert place.run().materialised == []


def test_other_bytes_with_the_same_rows_are_read_again_and_nothing_is_retrained(place: Place) -> None:
    file = place.space.raw(NAME, PERIODS[1])
    pl.read_parquet(file).write_parquet(file, compression="gzip")
    made = set(place.run().materialised)
    assert {f"{NAME}/raw_files", *names("raw_readings")} <= made
    assert not made & names("eac/backbone", "online/backbone", "eac/evaluation", "report")
    assert place.run().materialised == []


def test_changed_rows_retrain_that_period_and_the_later_ones(place: Place) -> None:
    before = lake().read((NAME, "leaderboard"), None, FRAME)
    place.space.change(NAME, PERIODS[1], pl.col("flow") * 1.5)
    outcome = place.run()
    made = set(outcome.materialised)
    assert outcome.ok
    assert names("eac/backbone", "online/backbone", "report", periods=PERIODS[1:]) <= made
    assert not made & names("eac/backbone", "online/backbone", "report", periods=PERIODS[:1])
    assert f"{NAME}/leaderboard" in made, "the leaderboard follows changed scores"
    after = lake().read((NAME, "leaderboard"), None, FRAME)
    assert not after.equals(before)
    assert place.run().materialised == []


def test_a_changed_learning_rate_runs_that_model_only(place: Place) -> None:
    place.edit(lambda document: document["models"][1]["training"].update(learning_rate=0.02))
    made = set(place.run().materialised)
    scores = names("online/backbone", "online/evaluation", "online/losses", "online/diagnostics", "report")
    assert made == scores | {f"{NAME}/leaderboard"}


def test_a_deleted_file_is_made_again(place: Place) -> None:
    gone = [f"{NAME}/eac/prompt_pool/{PERIODS[0]}.safetensors", f"{NAME}/readings/{PERIODS[2]}.parquet"]
    before = {path: (place.space.home / "lake" / path).read_bytes() for path in gone}
    for path in gone:
        (place.space.home / "lake" / path).unlink()
    made = set(place.run().materialised)
    assert names("eac/prompt_pool", "eac/backbone", periods=PERIODS[:1]) <= made
    assert names("readings", periods=PERIODS[2:]) <= made
    assert not made & names("online/backbone", "raw_readings")
    readings = place.space.home / "lake" / gone[1]
    assert readings.read_bytes() == before[gone[1]]


def test_deleting_the_leaderboard_makes_only_that(place: Place) -> None:
    (place.space.home / "lake" / NAME / "leaderboard.parquet").unlink()
    assert place.run().materialised == [f"{NAME}/leaderboard"]


def test_periods_and_models_narrow_the_run(fresh: Place) -> None:
    first = fresh.run(PERIODS[0], "online")
    assert first.ok
    made = set(first.materialised)
    assert names("online/backbone", "online/evaluation", "naive/evaluation", periods=PERIODS[:1]) <= made
    assert not [name for name in made if "/eac/" in name or "report" in name or "leaderboard" in name]
    assert {name.split(" of ")[1] for name in made if " of " in name} == {PERIODS[0]}
    skipped = fresh.run(PERIODS[2], "online")
    reasons = skipped.failed
    assert set(reasons) == {f"{NAME}/node_set of {PERIODS[2]}"}
    (reason,) = reasons.values()
    assert reason.endswith(f"not there; materialise {NAME}/node_set of {PERIODS[1]} first")
    assert not reason.startswith("st_pipeline.")


def test_poisoned_period_stops_its_readings_and_the_models_from_then_on(fresh: Place) -> None:
    good = fresh.space.poison(NAME, PERIODS[1])
    outcome = fresh.run()
    (failed,) = outcome.failed
    assert failed == f"{NAME}/readings of {PERIODS[1]}"
    assert "out of range, stuck or spikes; found" in outcome.failed[failed]
    assert outcome.failed[failed].endswith("nothing was written")
    files = fresh.space.files()

    def made(asset: str, kind: str = "parquet") -> list[str]:
        return [period for period in PERIODS if f"{NAME}/{asset}/{period}.{kind}" in files]

    assert made("raw_readings") == made("edges") == PERIODS
    assert made("readings") == [PERIODS[0], PERIODS[2]]
    assert made("eac/backbone", "safetensors") == made("online/backbone", "safetensors") == PERIODS[:1]
    assert made("eac/evaluation") == made("naive/evaluation") == made("report", "html") == PERIODS[:1]
    assert f"{NAME}/leaderboard.parquet" in files
    assert names("eac/backbone", "online/backbone", periods=PERIODS[1:]) <= set(outcome.blocked)
    again = fresh.run()
    assert again.materialised == [] and again.failed == outcome.failed

    fresh.space.raw(NAME, PERIODS[1]).write_bytes(good)
    mended = fresh.run()
    assert mended.ok
    assert not set(mended.materialised) & names("eac/backbone", "readings", "report", periods=PERIODS[:1])
    assert names("eac/backbone", "readings", "report", periods=PERIODS[1:2]) <= set(mended.materialised)
    assert f"{NAME}/leaderboard" in mended.materialised
    rows = lake().read((NAME, "leaderboard"), None, FRAME)
    assert rows["period"].unique().sort().to_list() == PERIODS


def test_data_poisoned_later_leave_earlier_results_intact(place: Place) -> None:
    lake_folder = place.space.home / "lake"
    before = {path: (lake_folder / path).read_bytes() for path in place.space.files()}
    place.space.poison(NAME, PERIODS[1])
    outcome = place.run()
    assert list(outcome.failed) == [f"{NAME}/readings of {PERIODS[1]}"]
    changed = {path for path, content in before.items() if (lake_folder / path).read_bytes() != content}
    raw = {f"{NAME}/raw_files.parquet", f"{NAME}/raw_readings/{PERIODS[1]}.parquet"}
    assert changed <= raw | {f"{NAME}/leaderboard.parquet"}
    assert place.space.files() == set(before)


def test_the_command_prints_the_sentence_and_exits_with_1(fresh: Place) -> None:
    from st_pipeline.cli.run import run

    fresh.space.poison(NAME, PERIODS[0])
    result = fresh.space.command("run", NAME, "--periods", PERIODS[0])
    assert result.returncode == 1, result.stderr
    assert f"failed  {NAME}/readings of {PERIODS[0]}: {NAME} readings: expected at most 50 %" in result.stdout.replace(
        "50%", "50 %"
    )
    assert "Traceback" not in result.stdout + result.stderr
    assert run.name == "run"


def test_json_documents(place: Place) -> None:
    done = place.space.command("run", NAME, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["materialised"] == [] and document["failed"] == {} and document["blocked"] == []
    assert Path(document["report"]).is_file()
    shown = CliRunner()
    from st_pipeline.cli.look import leaderboard, report, streams

    rows = json.loads(shown.invoke(leaderboard, [NAME, "--json"]).stdout)
    assert rows == document["leaderboard"]
    columns = [
        "stream",
        "model",
        "protocol",
        "seed",
        "trained_through",
        "period",
        "cohort",
        "metric",
        "horizon",
        "value",
    ]
    assert all(list(row) == columns for row in rows)
    models = {row["model"] for row in rows}
    assert models == {"eac", "online", "naive_last", "naive_daily", "naive_weekly", "historical_average"}
    assert {row["metric"] for row in rows} == {"mae", "rmse", "mape", "wape", "r2"}
    assert {row["horizon"] for row in rows} >= {"at:1", "at:3", "upto:3", "published_average"}
    eac = {(row["trained_through"], row["period"]) for row in rows if row["model"] == "eac"}
    learned = {(after, on) for after in PERIODS for on in PERIODS if on <= after}
    assert eac == learned | set(itertools.pairwise(PERIODS)), "and what is made of a period before learning it"
    (row,) = json.loads(shown.invoke(streams, ["--json"]).stdout)["streams"]
    assert row["name"] == NAME and row["reports"] == 3 and row["periods"] == 3
    where = json.loads(shown.invoke(report, [NAME, "--json"]).stdout)
    assert where["period"] == PERIODS[-1] and Path(where["path"]).is_file()
    plain = shown.invoke(leaderboard, [NAME]).stdout
    assert "naive_weekly" in plain and "eac" in plain and "seconds" in plain


@pytest.mark.parametrize(
    ("periods", "models", "sentence"),
    [
        ("2024-01-02", None, "has no period '2024-01-02'"),
        ("2024-01-15..2024-01-01", None, "expected A..B with A before B"),
        ("2024-01-01..2024-01-08..2024-01-15", None, "expected A..B with A before B"),
        ("..2023", None, "has no period '2023'"),
        (None, "eacc", "has no model 'eacc'; did you mean 'eac'?"),
        (None, ",", "has no model ''"),
        (None, "var", "has no model 'var'"),
    ],
)
def test_a_wrong_scope_is_one_sentence(fresh: Place, periods: str | None, models: str | None, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        scope(find_stream(NAME), periods, models)
    assert sentence in str(error.value)


def test_open_ended_scopes(fresh: Place) -> None:
    stream = find_stream(NAME)
    assert scope(stream, None, None).periods == tuple(PERIODS)
    assert scope(stream, "2024-01-08..", None).periods == tuple(PERIODS[1:])
    assert scope(stream, "..2024-01-08", None).periods == tuple(PERIODS[:2])
    assert scope(stream, "2024-01-08", "eac, naive").models == ("eac", "naive")


def test_a_baseline_that_is_added_is_made_and_shown_and_nothing_else_is_made_again(place: Place) -> None:
    place.edit(lambda document: document.update(baselines=["var"]))
    outcome = place.run()
    assert outcome.ok, outcome
    kinds = ("evaluation", "losses", "diagnostics")
    made = {f"{NAME}/var/{kind} of {period}" for kind in kinds for period in PERIODS}
    reports = {f"{NAME}/report of {period}" for period in PERIODS}
    assert set(outcome.materialised) == {*made, *reports, f"{NAME}/leaderboard"}
    rows = lake().read((NAME, "leaderboard"), None, FRAME).filter(model="var")
    assert set(rows["period"]) == set(PERIODS) and rows["seed"].unique().to_list() == [0]
    page = lake().path((NAME, "report"), PERIODS[-1], "html").read_text()
    assert '<tr class="naive"><td>var</td>' in page
    assert not place.run(models="var").materialised
    assert scope(find_stream(NAME), None, "var, eac").models == ("var", "eac")


def test_results_of_the_gate_are_asset_checks_with_tables(place: Place) -> None:
    with open_instance() as instance:
        key = dg.AssetKey([NAME, "readings"])
        checks = [dg.AssetCheckKey(key, name) for name in ("critical_expectations", "warning_expectations")]
        summary = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        for check, severity in zip(checks, (dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN), strict=True):
            event = summary[check].event
            assert event is not None and event.dagster_event is not None
            found = event.dagster_event.asset_check_evaluation_data
            assert found.severity == severity
            assert found.metadata["expectations"].value == len(found.metadata["table"].records) > 0
            record = found.metadata["table"].records[0].data
            assert set(record) == {"expectation", "passed", "found"}


def test_one_period_of_the_job_in_dagster(fresh: Place) -> None:
    """The job holds assets without periods too."""
    job = build().resolve_job_def(f"{NAME}_period")
    with open_instance() as instance:
        result = job.execute_in_process(partition_key=PERIODS[0], instance=instance, raise_on_error=False)
    assert result.success
    made = {"/".join(event.asset_key.path) for event in result.get_asset_materialization_events() if event.asset_key}
    assert {f"{NAME}/{name}" for name in ("raw_files", "sensors", "eac/backbone", "report", "leaderboard")} <= made
    checks = {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}
    gates = {"critical_expectations", "warning_expectations"}
    forecasts = {"every_sensor", "honest_intervals", "forecasts_beat_weekly"}
    assert checks == {*gates, *forecasts, "few_isolated", "beats_weekly", "same_units"}


def only(name: str, period: str) -> dg.ExecuteInProcessResult:
    job = build().resolve_implicit_global_asset_job_def()
    key = [dg.AssetKey([NAME, *part.split("/")]) for part in name.split()]
    with open_instance() as instance:
        return job.execute_in_process(
            partition_key=period, asset_selection=key, instance=instance, raise_on_error=False
        )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    data = event.step_failure_data.user_failure_data
    assert data is not None, event.step_failure_data.error
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    return str(data.description)


def test_a_model_refuses_a_predecessor_trained_on_other_data(place: Place) -> None:
    tensor = place.space.home / "lake" / NAME / "node_set" / f"{PERIODS[0]}.json"
    document = json.loads(tensor.read_text())
    document["silence"] = {"nobody": 3}
    tensor.write_text(json.dumps(document))
    reason = failure(only("eac/backbone eac/prompt_pool", PERIODS[1]))
    assert reason == (
        f"{NAME}/eac/backbone of {PERIODS[0]} was trained on data that have changed since; "
        f"materialise {NAME}/eac of {PERIODS[0]} first"
    )


def test_a_model_refuses_a_predecessor_of_another_configuration(place: Place) -> None:
    place.edit(lambda document: document["models"][0].update(seed=5))
    assert "was trained with another configuration" in failure(only("eac/backbone eac/prompt_pool", PERIODS[1]))


def test_a_model_refuses_parts_of_two_trainings(place: Place) -> None:
    folder = place.space.home / "lake" / NAME / "eac"
    before = (folder / "backbone" / f"{PERIODS[0]}.safetensors").read_bytes()
    for part in ("backbone", "prompt_pool"):
        (folder / part / f"{PERIODS[0]}.safetensors").write_bytes(
            (folder / part / f"{PERIODS[1]}.safetensors").read_bytes()
        )
    assert f"is of period {PERIODS[1]}" in failure(only("eac/backbone eac/prompt_pool", PERIODS[1]))
    (folder / "backbone" / f"{PERIODS[0]}.safetensors").write_bytes(before)
    assert failure(only("eac/backbone eac/prompt_pool", PERIODS[1]))


def test_a_model_refuses_to_start_without_its_predecessor(place: Place) -> None:
    (place.space.home / "lake" / NAME / "online" / "backbone" / f"{PERIODS[0]}.safetensors").unlink()
    reason = failure(only("online/backbone", PERIODS[1]))
    assert reason.endswith(f"not there; materialise {NAME}/online/backbone of {PERIODS[0]} first")


def test_a_missing_device_is_one_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_DEVICE", "cuda:63")
    assert "cuda:63 was asked for" in failure(only("online/backbone", PERIODS[0]))
    monkeypatch.setenv("ST_PIPELINE_FALLBACK", "cpu")
    result = only("online/backbone", PERIODS[0])
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert "fell back to the CPU" in str(event.materialization.metadata["notes"].value)


def test_duckdb_has_a_view_per_table_and_writes_nothing(place: Place) -> None:
    from resources.duckdb import DuckDBResource, create_views

    before = {file for file in place.space.folder.rglob("*") if file.is_file()}
    with DuckDBResource().connect() as connection:
        made = create_views(connection)
        assert set(made) >= {f"{NAME}.readings", f"{NAME}.eac_evaluation", f"{NAME}.leaderboard", f"{NAME}.sensors"}
        rows = connection.sql(f"SELECT file_period, count(*) FROM {NAME}.readings GROUP BY 1 ORDER BY 1").fetchall()
        assert [row[0] for row in rows] == PERIODS
        assert rows[0][1] == len(lake().read((NAME, "readings"), PERIODS[0], FRAME))
        query = f"SELECT count(*) FROM {NAME}.leaderboard WHERE model = 'eac' AND metric = 'mae'"
        assert connection.sql(query).fetchall()[0][0] > 0
    assert {file for file in place.space.folder.rglob("*") if file.is_file()} == before


def test_duckdb_names_a_damaged_file(place: Place) -> None:
    from resources.duckdb import DuckDBResource

    file = place.space.home / "lake" / NAME / "drift" / f"{PERIODS[0]}.parquet"
    file.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="drift") as error, DuckDBResource().connect():
        pass
    assert "\n" not in str(error.value)


def test_duckdb_without_a_lake_has_no_views(workspace: Any) -> None:
    from resources.duckdb import DuckDBResource

    with DuckDBResource().connect() as connection:
        assert connection.sql("SELECT 1").fetchall() == [(1,)]
