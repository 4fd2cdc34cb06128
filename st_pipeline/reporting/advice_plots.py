"""Pictures of an advice and of its replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from st_pipeline.data.drift import NOTABLE
from st_pipeline.evaluation.advice_rule import ACTIONS
from st_pipeline.reporting.advice_page import TOLD
from st_pipeline.reporting.canvas import GREY, INK, PALETTE, new_figure, nothing, short

NAMED = 5  # sensors with their names


def advice_plot(found: Mapping[str, Any]) -> Figure:
    """Each compared sensor: stability index over the change of its usual week, with the limits of both."""
    figure, axes = new_figure(6.4, 3.6)
    rows = [row for row in found["sensors"] if row["psi"] is not None and row["shift"] is not None]
    if not rows:
        return nothing(figure, axes, "no sensor can be compared with the period before")
    shift, psi = ([row[name] for row in rows] for name in ("shift", "psi"))
    axes.scatter(shift, psi, s=18, color=PALETTE[0], alpha=0.8, linewidth=0)
    for row in rows[:NAMED]:
        place = (row["shift"], row["psi"])
        axes.annotate(
            short(row["sensor_id"]), place, xytext=(4, 2), textcoords="offset points", fontsize=7, parse_math=False
        )
    axes.axhline(NOTABLE, color=GREY, linewidth=0.8, linestyle="--")
    axes.axvline(found["limits"]["broken"], color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("change of the usual week, deviations of the sensor", fontsize=8)
    axes.set_ylabel("population stability index", fontsize=8)
    axes.set_title(f"{found['period']} against {found['before']}", fontsize=9, color=INK, loc="left")
    return figure


def replay_plot(found: Mapping[str, Any], title: str) -> Figure:
    """Error of every action by period in percent above the least; what was advised is ringed, the best is filled."""
    figure, axes = new_figure(6.4, 3.6)
    rows = found["periods"]
    if not rows:
        return nothing(figure, axes, "no period has a known outcome")
    for place, row in enumerate(rows):
        known = {action: row[f"error_{action}"] for action in ACTIONS if row[f"error_{action}"] is not None}
        least = min(known.values())
        for action, error in known.items():
            above = 100 * (error / least - 1) if least else 0.0
            colour = PALETTE[ACTIONS.index(action)]
            spot = place + 0.16 * (ACTIONS.index(action) - 1)
            face = colour if action == row["best"] else "white"
            axes.scatter(spot, above, s=34, facecolor=face, edgecolor=colour, linewidth=1.4, zorder=3)
            if action == row["advice"]:
                axes.scatter(spot, above, s=150, facecolor="none", edgecolor=INK, linewidth=1.2, zorder=4)
    for index, action in enumerate(ACTIONS):
        if action not in found["unknown"]:
            axes.scatter([], [], s=34, color=PALETTE[index], label=TOLD[action])
    axes.scatter([], [], s=34, color=GREY, label="filled: best in hindsight")
    axes.scatter([], [], s=120, facecolor="none", edgecolor=INK, label="advised")
    axes.axhline(found["tolerance"], color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xticks(np.arange(len(rows)), [row["period"] for row in rows], fontsize=8)
    axes.set_ylabel("error above the least, %", fontsize=8)
    axes.set_title(title, fontsize=9, color=INK, loc="left", parse_math=False)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=5)
    return figure
