"""`bench universality`: backbones and variants through Dagster, once, and again only what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Invoke = Callable[..., Result]
CALL = ("bench", "universality", "town", "--seeds", "1", "--epochs", "1", "--periods", "..2024-01-01")


def test_backbones_are_trained_bare_and_in_variants_and_a_stopped_bench_goes_on(workspace: Any) -> None:
    workspace.stream("town", horizon=4)
    first = workspace.command(*CALL, "--backbones", "dlinear", "--variants", "bare,relearner", "--json")
    assert first.returncode == 0, first.stderr
    (document,) = json.loads(first.stdout)
    assert document["bench"] == "town_universality"
    rows = {row["model"]: row for row in document["rows"]}
    assert set(rows) == {"dlinear", "dlinear_relearner"}
    assert rows["dlinear"]["mark"] is None
    assert rows["dlinear_relearner"]["mark"] in ("better", "worse", "level")
    assert rows["dlinear_relearner"]["parameters"] > rows["dlinear"]["parameters"]
    assert all(row["mae"] > 0 for row in rows.values())

    more = workspace.command(*CALL, "--backbones", "dlinear,gru", "--variants", "bare,relearner")
    assert more.returncode == 0, more.stderr
    assert "gru_relearner" in more.stdout
    made = [line for line in more.stdout.splitlines() if line.startswith("town_universality:")]
    assert "assets materialised" in made[0]
    stored = {path.parts[-3:] for path in (workspace.home / "lake" / "town_universality").glob("dlinear/backbone/*")}
    assert stored

    again = workspace.command(*CALL, "--backbones", "dlinear,gru", "--variants", "bare,relearner")
    assert "nothing to do" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("town", "--backbones", "grue"), "the bench has no backbone 'grue'"),
        (("town", "--variants", "prompts"), "expected 'bare' among them"),
        (("town", "--seeds", "one"), "--seeds 'one': expected whole numbers such as 1,2,3"),
        (("town", "--data", "nowhere"), "--data nowhere: there is no such folder"),
        (("town", "--inputs-of", "eacc"), "stream 'town' has no model 'eacc'"),
        (("town", "--seasonal-skip"), "there is no season to mix; give `seasonal` lags"),
        (("village",), "there is no stream 'village'"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_writes_nothing(
    workspace: Any, invoke: Invoke, arguments: tuple[str, ...], told: str
) -> None:
    workspace.stream("town")
    result = invoke("bench", "universality", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not list((workspace.home / "streams").glob("*"))
