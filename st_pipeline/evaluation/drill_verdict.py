"""Whether a challenger's robustness drill is passed, held against the champion's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from st_pipeline.evaluation.drill import drill_summary

MARGIN = 5.0  # percentage points of skill that a challenger may lose more than the champion, mean over the scenarios


@dataclass(frozen=True)
class DrillVerdict:
    """Numbers of both drills, and why the challenger's is not passed; `refusal` is empty where it is."""

    period: str
    scenarios: int
    not_survived: tuple[str, ...]
    loss: float | None  # percentage points of skill, mean over the scenarios
    champion_loss: float | None
    refusal: str

    def document(self) -> dict[str, Any]:
        """Everything as JSON can hold it, with the margin."""
        return {**vars(self), "margin_points": MARGIN}


def drill_verdict(challenger: pl.DataFrame, champion: pl.DataFrame, *, names: tuple[str, str]) -> DrillVerdict:
    """Judge the drills (`DRILL_SCHEMA`) of one period.

    Passed is: with every seed in every scenario, `clean` among them, all forecasts are finite and within `Bounds`;
    and the mean loss of skill is at most `MARGIN` percentage points above the champion's.

    Args:
        names: of the champion and of the challenger.
    """
    own, other = (drill_summary(frame).row(0, named=True) for frame in (challenger, champion))
    failed = challenger.filter(~pl.col("survived"))["scenario"].unique(maintain_order=True).to_list()
    period, losses = challenger["period"][0], (own["mean_loss"], other["mean_loss"])
    refusal = _refusal(names, period, failed, losses)
    return DrillVerdict(period, own["scenarios"], tuple(failed), *losses, refusal)


def _refusal(names: tuple[str, str], period: str, failed: list[str], losses: tuple[float | None, float | None]) -> str:
    champion, model = names
    loss, usual = losses
    if failed:
        return (
            f"{model} did not survive {', '.join(failed)} in its drill of {period}: expected every forecast finite and "
            "within bounds"
        )
    if loss is None or usual is None:
        return f"the drills of {period} know no skill: the weekly naive forecast could not be scored"
    if loss > usual + MARGIN:
        return (
            f"{model} loses {loss:.1f} points of skill in its drill of {period}, the champion {champion} {usual:.1f}: "
            f"expected at most {MARGIN:g} more"
        )
    return ""
