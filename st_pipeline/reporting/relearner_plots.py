"""Pictures of a ReLearner: gates of the smoothing by sensor, and the residual before and after it."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from st_pipeline.data.positions import Positions
from st_pipeline.evaluation.relearner_analysis import ALPHA, BETA
from st_pipeline.reporting.canvas import (
    EDGE,
    GREY,
    INK,
    MAP_SIZE,
    PALETTE,
    name_sensors,
    new_figure,
    new_map,
    no_positions,
    nothing,
)


def gate_map(table: pl.DataFrame, places: Positions, *, gate: str = "beta") -> Figure:
    """The sensors on the map or plane, coloured by one of their gates.

    Args:
        table: rows of `relearner_analysis.sensor_table`.
        places: of the same sensors; those whose position is not known are left out.
        gate: `beta`, from 0 to 1, or the signed weight of a kernel, `alpha_adaptive`, from -1 to 1.
    """
    if gate not in table.columns:
        return nothing(*new_figure(*MAP_SIZE), "no smoothing has this gate")
    if missing := no_positions(places):
        return missing
    figure, axes = new_map(places)
    known = places.known
    values = table[gate].to_numpy()[known]
    signed = gate.startswith(ALPHA)
    dots = axes.scatter(
        places.plane[known, 0],
        places.plane[known, 1],
        c=values,
        cmap="RdBu_r" if signed else "viridis",
        norm=Normalize(-1 if signed else 0, 1),
        s=30,
        edgecolors=GREY,
        linewidths=0.4,
    )
    figure.colorbar(dots, ax=axes, shrink=0.7, label=_name(gate), pad=0.02)
    return figure


def gate_bars(table: pl.DataFrame) -> Figure:
    """Gates of every sensor, the most open ones first: beta upwards from 0, signed weights around it.

    Args:
        table: rows of `relearner_analysis.sensor_table`.
    """
    gates = [name for name in table.columns if name == BETA or name.startswith(ALPHA)]
    if not gates or table.is_empty():
        return nothing(*new_figure(6.4, 3.2), "no sensor has gates")
    figure, axes = new_figure(6.4, 3.4)
    ordered = table.sort(BETA, descending=True)
    width = 0.8 / len(gates)
    for index, gate in enumerate(gates):
        place = np.arange(len(ordered)) - 0.4 + (index + 0.5) * width
        axes.bar(place, ordered[gate].to_numpy(), width, color=PALETTE[index % len(PALETTE)], label=_name(gate))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylim(min(0.0, *(float(ordered[gate].min()) for gate in gates)) * 1.05, 1)  # type: ignore[arg-type]
    name_sensors(axes, ordered["sensor_id"].to_list())
    axes.legend(frameon=False, fontsize=7, ncols=len(gates), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def residual_plot(table: pl.DataFrame) -> Figure:
    """The residual of every sensor before and after smoothing, if there is any, with the means; largest first.

    Args:
        table: rows of `relearner_analysis.sensor_table`.
    """
    figure, axes = new_figure(6.4, 3.4)
    if table.is_empty():
        return nothing(figure, axes, "no sensor has a residual")
    ordered = table.sort("before", descending=True)
    place = np.arange(len(ordered))
    before, after = ordered["before"].to_numpy(), ordered["after"].to_numpy()
    axes.vlines(place, np.minimum(before, after), np.maximum(before, after), color=EDGE, linewidth=1.6, zorder=1)
    shown = [(before, GREY, "before smoothing"), (after, PALETTE[0], "after smoothing")]
    if BETA not in table.columns:
        shown = [(before, PALETTE[0], "not smoothed")]
    for values, colour, name in shown:
        axes.scatter(place, values, s=12, color=colour, label=f"{name}, mean {values.mean():.3g}", zorder=2)
        axes.axhline(values.mean(), color=colour, linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("root mean square of the residual")
    name_sensors(axes, ordered["sensor_id"].to_list())
    axes.legend(frameon=False, fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _name(gate: str) -> str:
    return f"weight of neighbours, {gate.removeprefix(ALPHA)}" if gate.startswith(ALPHA) else "gate beta"
