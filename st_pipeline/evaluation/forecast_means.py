"""Scores of issued forecasts, over days, steps and tiers taken together."""

from __future__ import annotations

import polars as pl

INSIDE = {50: ("q25", "q75"), 80: ("q10", "q90"), 90: ("q05", "q95")}
MEANS = ("mae", "naive_weekly_mae", *(f"coverage_{share}" for share in INSIDE), "width_90", "pinball")

ALL, FIRST_MONTH = ("all", "first_month")
HONEST = (0.85, 0.95)  # share of the truth that 90 % intervals should hold


def pooled(scores: pl.DataFrame, by: str | list[str] | None = None) -> pl.DataFrame:
    """Means over all cells of the rows, or of each group of them, null without any; one cohort at a time."""
    weights = {
        name: "interval_cells" if name.startswith(("coverage", "width", "pinball")) else "cells" for name in MEANS
    }
    means = [
        ((pl.col(name) * pl.col(weight)).sum() / pl.col(weight).filter(pl.col(name).is_not_null()).sum())
        .fill_nan(None)
        .alias(name)
        for name, weight in weights.items()
    ]
    sums = [pl.col("cells").sum(), pl.col("interval_cells").sum(), *means]
    return scores.select(sums) if by is None else scores.group_by(by, maintain_order=True).agg(sums)


def headline(scores: pl.DataFrame) -> dict[str, float | int]:
    """The means of all cells, and the coverage of sensors in their first month; what is not known is left out."""
    everything = pooled(scores.filter(pl.col("cohort") == ALL)).row(0, named=True)
    young = pooled(scores.filter(pl.col("cohort") == FIRST_MONTH)).row(0, named=True)
    found = {**everything, "first_month_mae": young["mae"], "first_month_coverage_90": young["coverage_90"]}
    return {name: value for name, value in found.items() if value is not None}
