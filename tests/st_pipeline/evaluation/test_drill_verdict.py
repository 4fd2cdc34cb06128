"""A drill is passed where everything was survived and skill is lost about as the champion loses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.evaluation.drill_verdict import MARGIN, drill_verdict

DAY = "2024-01-15"
USUAL = {"noise": 10.0, "outage": 20.0}
Made = Callable[..., pl.DataFrame]


def verdict(made_drill: Made, losses: dict[str, float | None], usual: Any = None, **changes: Any) -> Any:
    champion = made_drill("eac", DAY, usual or USUAL)
    return drill_verdict(made_drill("online", DAY, losses, **changes), champion, names=("eac", "online"))


@pytest.mark.parametrize(("more", "passed"), [(-30.0, True), (0.0, True), (MARGIN, True), (MARGIN + 0.1, False)])
def test_the_mean_loss_may_be_the_champions_and_the_margin(made_drill: Made, more: float, passed: bool) -> None:
    found = verdict(made_drill, {name: loss + more for name, loss in USUAL.items()})
    assert (found.refusal == "") is passed
    assert (found.loss, found.champion_loss) == (pytest.approx(15 + more), 15.0)
    if not passed:
        assert "online loses 20.1 points of skill in its drill of 2024-01-15, the champion eac 15.0" in found.refusal


@pytest.mark.parametrize("scenario", ["noise", "clean"])
def test_one_scenario_that_was_not_survived_is_a_refusal(made_drill: Made, scenario: str) -> None:
    found = verdict(made_drill, dict.fromkeys(USUAL, 0.0), failed=(scenario,))
    assert found.not_survived == (scenario,)
    assert f"online did not survive {scenario} in its drill of {DAY}" in found.refusal


def test_losses_that_are_not_known_are_no_pass(made_drill: Made) -> None:
    assert "know no skill" in verdict(made_drill, dict.fromkeys(USUAL, None)).refusal
    assert "know no skill" in verdict(made_drill, USUAL, usual=dict.fromkeys(USUAL, None)).refusal


def test_the_document_says_the_margin(made_drill: Made) -> None:
    document = verdict(made_drill, USUAL).document()
    assert document["margin_points"] == MARGIN and document["scenarios"] == 2
