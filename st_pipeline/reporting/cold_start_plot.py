"""The picture of how fast a new sensor becomes good."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any

from matplotlib.figure import Figure

from st_pipeline.reporting.canvas import GREY, INK, PALETTE, new_figure, nothing


def cold_start_plot(found: Mapping[str, Any]) -> Figure:
    """Error over the weekly naive's by days of readings, the middle half of the sensors, and the known sensors."""
    figure, axes = new_figure(6.4, 3.6)
    rows = [row for row in found["curve"] if row["mae"] is not None]
    if not rows:
        return nothing(figure, axes, "no sensor could be hidden")
    places = range(len(rows))
    own, low, high = ([row[key] for row in rows] for key in ("times_weekly", "low", "high"))
    axes.fill_between(places, low, high, color=PALETTE[0], alpha=0.18, linewidth=0, label="half of the sensors")
    axes.plot(places, own, color=PALETTE[0], marker="o", markersize=4, label="new sensors")
    known = [row["times_weekly"] / row["times_known"] if row["times_known"] else nan for row in rows]
    axes.plot(places, known, color=PALETTE[2], linestyle="--", label="the same, known")
    axes.axhline(1.0, color=GREY, linewidth=0.9, linestyle=":", label="weekly naive")
    axes.set_xticks(list(places), [str(row["days"]) for row in rows])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("days since the first reading", fontsize=8)
    axes.set_ylabel("MAE over the weekly naive's", fontsize=8)
    title = f"{found['stream']}, {found['period']}: {len(found['hidden'])} sensors hidden"
    axes.set_title(title, fontsize=9, color=INK, loc="left", parse_math=False)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=4)
    return figure
