"""`predict` and `export-model` with what a run has left in the lake; neither writes there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result

Invoke = Callable[..., Result]


@pytest.fixture
def town(workspace: Any, invoke: Invoke) -> Any:
    """A stream whose champion has learned its first period."""
    workspace.landed_stream("town", champion="eac")
    done = workspace.command("run", "town", "--models", "eac", "--periods", "2024-01-01")
    assert done.returncode == 0, done.stderr
    return workspace


def test_a_file_of_readings_becomes_forecasts_by_both_ways(town: Any, invoke: Invoke) -> None:
    file = town.folder / "recent.csv"
    rows = pl.read_parquet(town.raw("town", "2024-01-01")).filter(pl.col("flow") >= 0)
    rows.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M")).write_csv(file)
    before = town.files()
    result = invoke("predict", "town", "--readings", str(file), "--at", "2024-01-07T20:00", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    sensors = json.loads((town.home / "lake/town/node_set/2024-01-01.json").read_text())["ids"]
    assert [row["sensor_id"] for row in found["forecasts"][::3]] == sensors
    assert (found["model"], found["trained_through"]) == ("town/eac", "2024-01-01")
    assert {row["issued_at"] for row in found["forecasts"]} == {"2024-01-07T20:00:00+00:00"}
    table = invoke("predict", "town", "--readings", str(file)).stdout
    assert "town/eac, trained through 2024-01-01, issued 2024-01-08T00:00:00+00:00" in table
    into = town.folder / "folder"
    result = invoke("export-model", "town", "--into", str(into), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["model_id"].startswith("town/eac/2024-01-01/1/")
    assert _alone(into, file, "2024-01-07T20:00") == pytest.approx(
        [row["point"] for row in found["forecasts"]], rel=1e-5, abs=1e-3
    )
    assert town.files() == before
    again = invoke("export-model", "town", "--into", str(into))
    assert again.exit_code == 2 and "is there already and not empty" in again.stderr
    wrong = {
        ("predict", "town", "--readings", "none.csv"): "none.csv: there is no such file",
        ("predict", "town", "--readings", "x", "--model", "online"): "town/online has learned no period yet",
        ("export-model", "town", "--into", "x", "--period", "2024-01-08"): "has not learned period 2024-01-08",
        ("export-model", "town", "--into", "x", "--model", "eacc"): "did you mean 'eac'?",
    }
    for arguments, told in wrong.items():
        result = invoke(*arguments)
        assert result.exit_code == 2 and told in result.stderr, result.stderr


def _alone(folder: Path, file: Path, at: str) -> list[float]:
    from st_pipeline.forecasting.standalone import predict

    out = folder.parent / "forecasts.json"
    assert predict.main([str(file), "--at", at, "--json", "--out", str(out), "--model", str(folder)]) == 0
    return [row["point"] for row in json.loads(out.read_text())["forecasts"]]
