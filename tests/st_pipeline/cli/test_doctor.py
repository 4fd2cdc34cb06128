"""`doctor`: facts of this installation; what is wrong makes exit code 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


def test_a_sound_installation(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("good")
    shown, document = invoke("doctor"), invoke("doctor", "--json")
    found = json.loads(document.stdout)
    assert (shown.exit_code, document.exit_code) == (0, 0), shown.output
    assert "all well" in shown.stdout and found["problems"] == []
    assert found["compute"]["device"] == "cpu" and found["compute"]["threads"] == 1
    assert found["streams"] == {"valid": 1, "broken": 0}
    assert found["state"]["home"] == str(workspace.home)
    assert found["state"]["data"].endswith("(not there)")
    assert not workspace.home.exists(), "nothing is written"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ST_PIPELINE_DEVICE", "gpu", "device is 'gpu'; expected auto, cpu, cuda or cuda:N (ST_PIPELINE_DEVICE)"),
        ("ST_PIPELINE_DEVICE", "cuda:99", "device cuda:99 was asked for"),
        ("ST_PIPELINE_THREADS", "two", "ST_PIPELINE_THREADS is 'two'; expected a whole number"),
        ("ST_PIPELINE_HOME", "file/home", "cannot be written; set ST_PIPELINE_HOME"),
    ],
)
def test_problems_are_told(
    workspace: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    (workspace.folder / "file").write_text("no folder")
    monkeypatch.setenv(name, value)
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    assert any(expected in problem for problem in json.loads(result.stdout)["problems"])


def test_broken_streams_are_problems(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("broken", description="[/]", step="7min")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "found '7min'" in result.stdout
