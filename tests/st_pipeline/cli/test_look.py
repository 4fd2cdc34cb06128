"""`streams`, `leaderboard`, `report`: what there is; JSON alone on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from st_pipeline.files import write_atomic

Invoke = Callable[..., Result]


def test_streams_are_listed_and_broken_ones_explained(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("good", description="[bold]people[/bold] per hour")
    workspace.stream("broken", step="7min")
    result = invoke("streams")
    assert result.exit_code == 0
    assert "[bold]people[/bold] per hour" in result.stdout
    assert "step: found '7min'" in result.stdout
    document = json.loads(invoke("streams", "--json").stdout)
    (row,), (fault,) = document["streams"], document["broken"]
    assert (row["name"], row["periods"], row["reports"], row["models"]) == ("good", 3, 0, "eac, online")
    assert fault["name"] == "broken" and "7min" in fault["problem"]


def test_no_streams_are_no_error(workspace: Any, invoke: Invoke) -> None:
    assert json.loads(invoke("streams", "--json").stdout) == {"streams": [], "broken": []}


def test_the_newest_report_is_named(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("good")
    for period in ("2024-01-01", "2024-01-08"):
        write_atomic(workspace.home / "lake" / "good" / "report" / f"{period}.html", b"<html></html>")
    path = workspace.home / "lake" / "good" / "report" / "2024-01-08.html"
    assert invoke("report", "good").stdout == f"{path}\n"
    found = json.loads(invoke("report", "good", "--json").stdout)
    assert found == {"stream": "good", "period": "2024-01-08", "path": str(path)}
    assert invoke("report", "good", "--period", "2024-01-01").stdout.endswith("2024-01-01.html\n")


@pytest.mark.parametrize("command", ["leaderboard", "report", "check"])
def test_a_fault_leaves_standard_output_empty(workspace: Any, invoke: Invoke, command: str) -> None:
    workspace.stream("good", source={"format": "csv", "readings": "none.csv", "columns": {"flow": "q", "speed": "v"}})
    result = invoke(command, "good", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
