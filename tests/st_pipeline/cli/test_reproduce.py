"""`reproduce`: published numbers beside ours, on the screen, as JSON and in a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result

from st_pipeline import definitions
from st_pipeline.cli import run as running
from st_pipeline.cli.runner import Outcome, Scope
from st_pipeline.evaluation.published import published_tables
from st_pipeline.evaluation.rows import SCHEMA
from st_pipeline.model_config import methods
from st_pipeline.reporting.published_section import BEGIN, END, section
from st_pipeline.storage import FRAME, JSON, dump_frame, dump_json, lake
from st_pipeline.streams import Stream

Invoke = Callable[..., Result]
PERIODS = ["2024-01-01", "2024-01-08", "2024-01-15"]
EAC = {**methods()["eac"], "protocol": "paper"}
SMALL = {**deepcopy(EAC), "training": {"epochs": 1}}
KEYS = {"table", "name", "method", "stream", "metric", "horizon", "period", "published", "spread", "ours", "model"}


def write_leaderboard(*rows: tuple[str, str, str, float], protocol: str = "paper", stream: str = "pems_stream") -> None:
    """Rows (model, metric, horizon, value), the value in every period right after learning it."""
    found = [
        dict(zip(SCHEMA, (stream, model, protocol, 1, key, key, "all", metric, horizon, value), strict=True))
        for model, metric, horizon, value in rows
        for key in PERIODS
    ]
    lake().write((stream, "leaderboard"), None, FRAME, dump_frame(pl.DataFrame(found, schema=SCHEMA)))


def document(invoke: Invoke, *arguments: str) -> dict[str, Any]:
    result = invoke("reproduce", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def rows_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    """metric -> row of one published run on PEMS-Stream."""
    return {row["metric"]: row for row in found["rows"] if (row["name"], row["stream"]) == (name, "PEMS-Stream")}


@pytest.mark.parametrize("table", published_tables())
def test_without_the_streams_every_table_is_published_numbers_and_reasons(
    workspace: Any, invoke: Invoke, table: str
) -> None:
    found = document(invoke, table)
    assert found["table"] == table and found["runs"] == {}
    assert len(found["rows"]) == len(published_tables()[table].rows)
    for row in found["rows"]:
        assert set(row) == {*KEYS, "seeds", "difference", "reason", "source"}
        assert row["ours"] is row["difference"] is None and row["reason"]
    shown = invoke("reproduce", table)
    assert shown.exit_code == 0
    assert "no stream called pems_stream: the archive PEMS-Stream is not public in a repository" in shown.stdout


def test_ours_and_the_difference_are_shown(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("pems_stream", window=12, horizon=12, models=[EAC])
    average = "published_average"
    write_leaderboard(
        ("eac", "mae", average, 14.0), ("eac", "rmse", average, 21.0), ("naive_last", "mae", average, 1.0)
    )
    rows = rows_of(document(invoke, "1"), "EAC")
    assert (rows["mae"]["ours"], rows["rmse"]["ours"]) == (14.0, 21.0)
    assert rows["mae"]["difference"] == pytest.approx(14.0 - 13.53)
    assert rows["rmse"]["difference"] == pytest.approx(21.0 - 21.77)
    assert (rows["mae"]["model"], rows["mae"]["seeds"], rows["mae"]["reason"]) == ("eac", 1, "3 of 7 periods")
    plain = invoke("reproduce", "1").stdout
    (line,) = [line for line in plain.splitlines() if line.split()[:4] == ["EAC", "eac", "PEMS-Stream", "mae"]]
    assert line.split()[4:] == ["13.53", "0.06", "14", "1", "0.47", line.split()[-1]]
    assert "3 of 7 periods" in plain and "difference: ours minus published" in plain


def test_a_method_without_a_row_says_so(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("pems_stream", window=12, horizon=12, models=[EAC])
    write_leaderboard(("eac", "mae", "published_average", 14.0))
    row = rows_of(document(invoke, "2"), "TFMoE")["mae"]
    assert row["ours"] is None
    assert row["reason"].startswith("the stream pems_stream has no row of tfmoe under protocol paper")


def test_rows_under_protocol_sound_do_not_count(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("pems_stream", window=12, horizon=12, models=[methods()["eac"]])
    write_leaderboard(("eac", "mae", "published_average", 14.0), protocol="sound")
    row = rows_of(document(invoke, "1"), "EAC")["mae"]
    assert row["ours"] is None and "no row of eac under protocol paper" in row["reason"]


def test_seconds_are_those_of_all_periods(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("pems_stream", window=12, horizon=12, models=[EAC])
    write_leaderboard(("eac", "mae", "upto:12", 15.0))
    for key, seconds in zip(PERIODS, (100.0, 20.0, 30.0), strict=True):
        diagnostics = {"cost": {"seconds": seconds}}
        lake().write(("pems_stream", "eac", "diagnostics"), key, JSON, dump_json(diagnostics))
    rows = rows_of(document(invoke, "4"), "EAC")
    assert (rows["mae"]["ours"], rows["seconds"]["ours"]) == (15.0, 150.0)
    assert rows["seconds"]["difference"] == 150.0 - 224


def test_a_broken_stream_is_the_reason(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("pems_stream", step="7min")
    row = rows_of(document(invoke, "1"), "EAC")["mae"]
    assert row["ours"] is None and "step: found '7min'" in row["reason"]
    assert "step: found '7min'" in invoke("reproduce", "1").stdout


def test_run_makes_the_models_of_the_table_and_the_leaderboard(
    workspace: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**deepcopy(SMALL), "name": "other", "protocol": "sound"}
    workspace.stream(
        "pems_stream", periods={"every": "7d", "start": "2024-01-01", "end": "2024-01-08"}, models=[SMALL, other]
    )
    monkeypatch.setattr(definitions, "defs", definitions.build())
    found = document(invoke, "2", "--run")
    outcome = found["runs"]["pems_stream"]
    assert outcome["failed"] == {} and outcome["blocked"] == []
    made = {name.split(" of ")[0] for name in outcome["materialised"]}
    assert {"pems_stream/eac/backbone", "pems_stream/leaderboard"} <= made
    assert not [name for name in made if "/other/" in name or name.endswith("/report")]
    row = rows_of(found, "EAC")["mae"]
    rows = lake().read(("pems_stream", "leaderboard"), None, FRAME)
    own = rows.filter(model="eac", metric="mae", horizon="published_average", cohort="all")
    assert row["ours"] == own["value"].item()
    assert "other settings than the published run: window, horizon, training" in row["reason"]
    assert document(invoke, "2", "--run")["runs"]["pems_stream"]["materialised"] == []


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Scope, ...], bool]]:
    """Stream, scopes and quietness of every run asked for; nothing runs, and one asset is told to have failed."""
    asked: list[tuple[str, tuple[Scope, ...], bool]] = []

    def execute(stream: Stream, *wanted: Scope, quiet: bool) -> Outcome:
        asked.append((stream.name, wanted, quiet))
        return Outcome(failed={"pems_stream/readings of 2024-01-01": "expected [more]"})

    monkeypatch.setattr(running, "execute", execute)
    return asked


def test_run_asks_for_the_models_of_the_table_in_all_periods(workspace: Any, invoke: Invoke, ran: list[Any]) -> None:
    online = {**methods()["online"], "protocol": "paper"}
    workspace.stream("pems_stream", models=[SMALL, online, methods()["retrain"]])
    workspace.stream("air_stream", models=[{**online, "name": "online_paper"}])
    workspace.stream("elsewhere", models=[SMALL])
    invoke("reproduce", "1", "--run", "--json")
    leaderboard = Scope(periods=())
    assert sorted(ran) == [
        ("air_stream", (Scope(tuple(PERIODS), ("online_paper",)), leaderboard), True),
        ("pems_stream", (Scope(tuple(PERIODS), ("online", "eac")), leaderboard), True),
    ]


def test_a_failed_run_exits_with_1_and_still_shows_the_table(workspace: Any, invoke: Invoke, ran: list[Any]) -> None:
    workspace.stream("pems_stream", models=[SMALL])
    result = invoke("reproduce", "2", "--run", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["runs"]["pems_stream"]["failed"] == {"pems_stream/readings of 2024-01-01": "expected [more]"}
    assert rows_of(found, "EAC")["mae"]["reason"].endswith("under protocol paper; add --run")
    plain = invoke("reproduce", "2", "--run")
    assert plain.exit_code == 1
    assert "failed  pems_stream/readings of 2024-01-01: expected [more]" in plain.stdout
    assert "2: EAC beside methods" in plain.stdout


@pytest.mark.parametrize("streams", [(), ("pems_stream",), ("melbourne",)])
def test_run_without_models_of_the_table_runs_nothing(
    workspace: Any, invoke: Invoke, ran: list[Any], streams: tuple[str, ...]
) -> None:
    for name in streams:
        workspace.stream(name)
    assert document(invoke, "1", "--run")["runs"] == {}
    assert ran == []


def test_parameters_are_counted_without_any_stream(workspace: Any, invoke: Invoke) -> None:
    found = document(invoke, "parameters")
    assert {row["difference"] for row in found["rows"]} == {0}
    published = {row["published"] for row in found["rows"]}
    assert published >= {3308, 3596, 36584, 19944, 4844, 38120, 21480, 7310, 8606, 4362, 5298}
    plain = invoke("reproduce", "parameters").stdout
    assert "eac_spectral_recurrence" in plain and "38,120" in plain


def test_the_list_names_every_table(workspace: Any, invoke: Invoke) -> None:
    found = document(invoke, "list")
    assert [row["table"] for row in found["tables"]] == [*published_tables(), "parameters"]
    assert "Main comparison" in invoke("reproduce", "list").stdout


def test_a_document_is_written_between_its_markers(workspace: Any, invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text(f"# Notes\n{BEGIN}\n{END}\nend\n", encoding="utf-8")
    result = invoke("reproduce", "--write", str(file))
    assert result.exit_code == 0 and "notes.md: written" in result.stdout
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# Notes\n") and text.endswith("\nend\n") and section() in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["5"], "there is no published table '5'; known: '1', '2', '3', '4'"),
        (["paramters"], "did you mean 'parameters'?"),
        ([], "which table? known: '1'"),
        (["list", "--run"], "--run goes with a table of errors, and 'list' is none"),
        (["parameters", "--run"], "--run goes with a table of errors"),
        (["1", "--write", "x.md"], "--write FILE writes all tables"),
        (["--write", "x.md", "--json"], "--write FILE writes all tables"),
        (["--write", "none.md"], "--write none.md: cannot be read: No such file"),
        (["--write", "."], "--write .: cannot be read: Is a directory"),
    ],
)
def test_a_wrong_call_is_one_sentence(workspace: Any, invoke: Invoke, arguments: list[str], sentence: str) -> None:
    result = invoke("reproduce", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr and result.stderr.count("\n") == 1


def test_a_document_without_markers_is_left_alone(workspace: Any, invoke: Invoke, tmp_path: Path) -> None:
    for name, content in (("plain.md", b"# Plain\n"), ("bytes.md", b"\xff\xfe")):
        file = tmp_path / name
        file.write_bytes(content)
        result = invoke("reproduce", "--write", str(file))
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert file.read_bytes() == content


def test_a_damaged_leaderboard_leaves_standard_output_empty(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("pems_stream", models=[EAC])
    lake().write(("pems_stream", "leaderboard"), None, FRAME, b"no parquet")
    result = invoke("reproduce", "1", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "leaderboard.parquet: damaged" in result.stderr
