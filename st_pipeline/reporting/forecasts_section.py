"""The report's section on forecasts as they were issued."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from st_pipeline.evaluation.forecast_means import ALL, headline
from st_pipeline.reporting.forecast_plots import coverage_plot, error_plot
from st_pipeline.reporting.images import svg_text


def issued_section(scores: pl.DataFrame | None) -> dict[str, Any] | None:
    """A sentence and two pictures; None if no truth has arrived.

    Args:
        scores: rows of `forecast_scores`.
    """
    if scores is None or scores.is_empty():
        return None
    known = scores.filter(pl.col("cohort") == ALL)
    figures = {"error": error_plot(known), "coverage": coverage_plot(known)}
    return {
        "sentence": _sentence(headline(scores), known),
        **{name: Markup(svg_text(figure, f"issued-{name}")) for name, figure in figures.items()},
    }


def _sentence(found: dict[str, float | int], known: pl.DataFrame) -> str:
    tiers = known.group_by("tier").agg(pl.col("cells").sum()).sort("tier")
    shares = ", ".join(f"{100 * cells / found['cells']:.1f} % {tier}" for tier, cells in tiers.iter_rows())
    text = f"{found['cells']:,} forecasts have their truth ({shares}): mean absolute error {found['mae']:.4g}"
    if "naive_weekly_mae" in found:
        text += f", weekly naive {found['naive_weekly_mae']:.4g} on the same cells"
    if "coverage_90" in found:
        text += f"; {100 * found['coverage_90']:.1f} % of the truth lies in the 90 % intervals"
    if "first_month_coverage_90" in found:
        text += f", {100 * found['first_month_coverage_90']:.1f} % for sensors in their first month"
    return text + "."
