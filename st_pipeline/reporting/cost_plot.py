"""The picture of a cost ledger: what each model's error costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.figure import Figure

from st_pipeline.model_config import NAIVE_MODELS
from st_pipeline.reporting.comparison_plots import pareto_plot


def cost_plot(
    rows: Iterable[Mapping[str, Any]], seconds: Mapping[str, float | None], *, protocol: str, cost: str
) -> Figure | None:
    """Error over training time of one protocol's models, and of the best naive forecast, which is free.

    None where no model has both.

    Args:
        rows: with `model`, `protocol` and `mae`, as in `summary`.
        seconds: by model.
        cost: what they are the seconds of, for the axis.
    """
    errors = {row["model"]: row["mae"] for row in rows if row["protocol"] == protocol and row["mae"] is not None}
    shown = {name: taken for name in errors if (taken := seconds.get(name)) is not None}
    if not shown:
        return None
    free = [name for name in NAIVE_MODELS if name in errors]
    shown |= dict.fromkeys(sorted(free, key=lambda name: errors[name])[:1], 0.0)
    return pareto_plot(shown, {name: errors[name] for name in shown}, cost=cost)
