"""`check`: what a stream's raw data are, and what is wrong with them, before anything is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from click.testing import Result

Invoke = Callable[..., Result]
PERIODS = ["2024-01-01", "2024-01-08", "2024-01-15"]
MODEL: dict[str, Any] = {"name": "all", "backbone": "stgnn", "strategy": "online"}


def test_a_good_stream_is_usable(workspace: Any, invoke: Invoke) -> None:
    workspace.landed_stream("tiny")
    shown, document = invoke("check", "tiny"), invoke("check", "tiny", "--json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert all(period in shown.stdout for period in PERIODS) and "usable" in shown.stdout
    found = json.loads(document.stdout)
    assert found["errors"] == []
    assert [row["period"] for row in found["periods"]] == PERIODS
    assert [row["sensors"] for row in found["periods"]] == [8, 9, 11]
    assert sum(row["new"] for row in found["periods"]) == found["sensors"] == 12
    assert all(row["edges"] > 0 and 0 < row["missing"] < 20 for row in found["periods"])
    assert not workspace.home.exists(), "nothing is written"


def test_the_gate_speaks_through_check(workspace: Any, invoke: Invoke) -> None:
    workspace.landed_stream("tiny")
    workspace.poison("tiny", PERIODS[1])
    result = invoke("check", "tiny", "--json")
    assert result.exit_code == 2
    (error,) = json.loads(result.stdout)["errors"]
    assert result.stderr == f"st-pipeline: stream 'tiny' cannot be used: {error}\n"
    assert f"tiny readings of {PERIODS[1]}: expected" in error


def test_ids_with_markup_are_shown_as_text(workspace: Any, invoke: Invoke) -> None:
    workspace.landed_stream("tiny")
    raw = workspace.streams / "tiny" / "raw"
    sensors = pl.read_csv(raw / "sensors.csv", infer_schema=False)
    odd = sensors.head(1).with_columns(sensor_id=pl.lit("[red]odd[/]"), x_m=pl.lit(""), y_m=pl.lit(""))
    pl.concat([sensors, odd]).write_csv(raw / "sensors.csv")
    result = invoke("check", "tiny")
    assert result.exit_code == 0, result.output
    assert "[red]odd[/]" in result.stdout


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"window": 120}, "period 2024-01-01: its train part has 100 steps, but one window needs 123"),
        (
            {"models": [MODEL, MODEL | {"name": "few", "training": {"share": 0.04}}]},
            "period 2024-01-01: its train part has 6 steps, but one window needs 9 (window + horizon); choose longer "
            "periods, a shorter window or another split (or training.share, for the train part)",
        ),
        ({"graph": {"recipe": "edges"}}, "the given edges have no weight"),
    ],
)
def test_what_only_training_would_meet_is_told(
    workspace: Any, invoke: Invoke, changes: dict[str, Any], expected: str
) -> None:
    workspace.landed_stream("tiny", **changes)
    result = invoke("check", "tiny")
    assert result.exit_code == 2
    assert expected in result.stderr
