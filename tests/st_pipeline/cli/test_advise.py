"""`advise` prints the stored advice, makes the same of what is stored, and replays past periods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

from st_pipeline.formats import content

Invoke = Callable[..., Result]
FIRST, SECOND, THIRD = "2024-01-01", "2024-01-08", "2024-01-15"


def test_the_advice_is_there_before_the_training_and_the_same_from_what_is_stored(town: Any, invoke: Invoke) -> None:
    stored = town.home / "lake/town/advice" / f"{SECOND}.json"
    trained = town.home / "lake/town/eac/backbone" / f"{SECOND}.safetensors"
    assert stored.stat().st_mtime_ns < trained.stat().st_mtime_ns
    result = invoke("advise", "town", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found == json.loads(content(stored.read_bytes(), "json"))
    assert (found["period"], found["model"], found["before"]) == (SECOND, "eac", FIRST)
    assert found["forecast"]["change"] is not None and found["costs"]["retrain"]["seconds"] > 0
    stored.unlink()
    assert json.loads(invoke("advise", "town", "--json").stdout) == found
    picture = town.folder / "advice.png"
    page = invoke("advise", "town", "--period", FIRST, "--picture", str(picture)).stdout
    assert "# town, 2024-01-01: train anew" in page and "There is" not in page
    assert picture.read_bytes()[:4] == b"\x89PNG"

    again = invoke("advise", "town", "--replay", "--json")
    replayed = json.loads(again.stdout)
    assert [row["period"] for row in replayed["periods"]] == [SECOND]
    assert replayed["unknown"] == ["retrain"]
    assert "of 1 periods" in invoke("advise", "town", "--replay").stdout

    wrong = {
        ("--period", "2024-02"): "has no tensor of period '2024-02'",
        ("--model", "eacc"): "did you mean 'eac'?",
        ("--model", "online", "--replay"): "town/online has no period after the first that it was scored on",
        ("--period", FIRST, "--replay"): "leave --period out",
    }
    for arguments, told in wrong.items():
        result = invoke("advise", "town", *arguments)
        assert result.exit_code == 2 and told in result.stderr, result.stderr
    result = invoke("advise", "town", "--model", "online", "--json")
    assert "has no checkpoint of 2024-01-01" in json.loads(result.stdout)["missing"][0]


def test_nothing_landed_and_no_model_are_told(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("bare", models=[])
    workspace.stream("empty")
    for name, told in (("bare", "has no model"), ("empty", "has no tensor yet; run `st-pipeline run empty` first")):
        result = invoke("advise", name)
        assert result.exit_code == 2 and told in result.stderr, result.stderr
