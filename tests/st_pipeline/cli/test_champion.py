"""The champion on the command line: every action is a Dagster run, every refusal one sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from resources.instance import open_instance

Invoke = Callable[..., Result]
SECONDS = 60  # that a rollback may take


@pytest.fixture
def town(workspace: Any, fill_losses: Callable[..., None]) -> Any:
    workspace.stream("town", champion="eac")
    fill_losses("town", {"eac": 0.0, "online": -1.0})
    return workspace


def test_promote_look_and_roll_back(town: Any, invoke: Invoke) -> None:
    before = json.loads(invoke("champion", "town", "--json").stdout)
    assert (before["champion"], before["history"]) == ("eac", [])
    (row,) = before["challengers"]
    assert row["model"] == "online" and row["eligible"] and row["relative"] < -1
    assert set(row["by_period"]) == {"2024-01-01", "2024-01-08", "2024-01-15"}

    promoted = invoke("promote", "town", "online", "--reason", "better since autumn")
    assert promoted.exit_code == 0, promoted.stderr
    assert "town: online serves" in promoted.stdout
    plain = invoke("champion", "town").stdout
    assert "better since autumn" in plain and "eac is not at least 1 % below the champion online" in plain

    began = time.perf_counter()
    assert "town: eac serves" in invoke("rollback", "town").stdout
    assert time.perf_counter() - began < SECONDS
    state = json.loads(invoke("champion", "town", "--json").stdout)
    assert [event["action"] for event in state["history"]] == ["promote", "rollback"]
    instance = open_instance()
    assert all(instance.get_run_by_id(event["run"]) for event in state["history"])
    assert not [path for path in town.files() if "backbone" in path]


def test_shadows_and_freezing(town: Any, invoke: Invoke) -> None:
    assert "shadows: online" in invoke("shadow", "town", "online").stdout
    assert "it is so already, nothing was changed" in invoke("shadow", "town", "online").stdout
    assert "frozen: it serves and learns nothing" in invoke("freeze", "town", "--reason", "works").stdout
    invoke("unfreeze", "town")
    invoke("shadow", "town", "online", "--stop")
    state = json.loads(invoke("champion", "town", "--json").stdout)
    assert (state["shadows"], state["frozen"]) == ([], False)
    assert [event["action"] for event in state["history"]] == ["shadow", "freeze", "unfreeze", "unshadow"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("promote", "town", "onlin"), "has no model 'onlin'; did you mean 'online'?"),
        (("promote", "twn", "online"), "did you mean 'town'?"),
        (("promote", "town", "online", "--force"), "a forced promotion needs a reason"),
        (("promote", "town", "online", "--require-drill"), "online has learned no period"),
        (("rollback", "town"), "there is no promotion to roll back"),
        (("shadow", "town", "eac"), "'eac' serves; a shadow is another model"),
    ],
)
def test_refusals_are_one_sentence_and_change_nothing(
    town: Any, invoke: Invoke, arguments: tuple[str, ...], told: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and told in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "champion.json" not in "".join(town.files())


def test_a_stream_without_scores_says_why_nobody_may_be_promoted(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("new")
    (row,) = json.loads(invoke("champion", "new", "--json").stdout)["challengers"]
    assert not row["eligible"] and "needs 2 scored periods of the champion eac, found none" in row["why"]
