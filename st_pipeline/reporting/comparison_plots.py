"""Pictures of a comparison: which models differ in rank, and what an error costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import ceil, isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from st_pipeline.errors import InputError
from st_pipeline.reporting.canvas import EDGE, GREY, INK, NEW, PALETTE, new_figure

ROW = 0.26  # inches, of a line of text in the rank plot
LETTER, LINE, GAP = 0.0125, 0.036, 0.013  # of the Pareto chart's axes: a label's letter, its height, its distance
RISES = (0.6, -0.6, 1.5, -1.5, 2.4, -2.4, 3.3, -3.3)  # lines that a label may stand off its point
FRONT_LABEL: dict[str, Any] = {"fontsize": 8, "color": INK}
LABEL: dict[str, Any] = {"fontsize": 7, "color": GREY}


def critical_difference_plot(mean_ranks: Mapping[str, float], difference: float) -> Figure:
    """Mean ranks on a line, best on the left; a bar joins models closer than the critical difference (Demsar 2006).

    Args:
        mean_ranks: of `friedman`, by model.
        difference: of `nemenyi_difference`.
    """
    _require(mean_ranks, "mean rank", least=1)
    if len(mean_ranks) < 2:
        raise InputError(f"Ranks of {len(mean_ranks)} models cannot be compared; expected at least 2.")
    names = sorted(mean_ranks, key=lambda name: (mean_ranks[name], name))
    ranks = [mean_ranks[name] for name in names]
    bars = joined(ranks, difference)
    left = ceil(len(names) / 2)
    depth = 1 + len(bars) + left
    figure, axes = new_figure(7.2, 0.6 + ROW * (depth + 1.5))
    most = max(len(names), ceil(ranks[-1]))
    _rank_line(axes, most, difference)
    for row, (first, last) in enumerate(bars):
        axes.plot([ranks[first] - 0.03, ranks[last] + 0.03], [-0.6 - row] * 2, color=NEW, linewidth=3)
    for index, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        on_left = index < left
        below = -(1 + len(bars)) - (index if on_left else len(names) - 1 - index)
        side = 1 - 0.08 * most if on_left else most + 0.08 * most
        axes.plot([rank, rank, side], [0, below, below], color=INK, linewidth=0.8)
        text = f"{name}  {rank:.2f}" if on_left else f"{rank:.2f}  {name}"
        axes.annotate(
            text,
            (side, below),
            xytext=(-4 if on_left else 4, 0),
            textcoords="offset points",
            ha="right" if on_left else "left",
            va="center",
            fontsize=8,
            color=INK,
            parse_math=False,
        )
    axes.set_ylim(0.5 - depth, 2.2)
    return figure


def joined(ranks: list[float], difference: float) -> list[tuple[int, int]]:
    """Longest runs of ascending ranks within the critical difference, as first and last index, of two or more."""
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(index for index, other in enumerate(ranks) if other - rank <= difference)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def pareto_plot(
    costs: Mapping[str, float],
    errors: Mapping[str, float],
    *,
    cost: str = "seconds per later period",
    error: str = "mean absolute error",
) -> Figure:
    """Error over cost on a log axis, the models that no other beats in both on a line.

    A model that costs nothing, such as a naive forecast, is a dashed line across: a log axis has no zero.

    Args:
        costs: by model, seconds or trainable parameters.
        errors: of the same models.
    """
    if costs.keys() != errors.keys():
        one = min(costs.keys() ^ errors.keys())
        raise InputError(f"Model {one!r} has a cost or an error but not both; give both of every model, or neither.")
    _require(costs, cost, least=0)
    _require(errors, error, least=0)
    figure, axes = new_figure(6.8, 4.4)
    best = non_dominated(costs, errors)
    paid = [name for name in sorted(errors, key=lambda name: (errors[name], name)) if costs[name] > 0]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(cost)
    axes.set_ylabel(error)
    for name in (name for name in errors if not costs[name]):
        axes.axhline(errors[name], color=GREY, linewidth=1, linestyle="--")
        where = axes.get_yaxis_transform()
        axes.text(0.01, errors[name], f"{name} (free)", transform=where, va="bottom", parse_math=False, **LABEL)
    front = sorted((costs[name], errors[name]) for name in paid if name in best)
    axes.plot(*np.array(front).reshape(-1, 2).T, color=PALETTE[0], linewidth=1.2, drawstyle="steps-post", zorder=1)
    if paid:
        _labelled_dots(axes, {name: (costs[name], errors[name]) for name in paid}, best)
    return figure


def non_dominated(costs: Mapping[str, float], errors: Mapping[str, float]) -> set[str]:
    """Models for which no other is at least as good in cost and error, and better in one."""

    def beats(one: str, other: str) -> bool:
        gain = costs[other] - costs[one], errors[other] - errors[one]
        return min(gain) >= 0 and max(gain) > 0

    return {name for name in errors if not any(beats(other, name) for other in errors)}


def _labelled_dots(axes: Axes, points: Mapping[str, tuple[float, float]], best: Collection[str]) -> None:
    """Points with their names, those of the front in colour; labels stand where nothing is in the way."""
    colours = [PALETTE[0] if name in best else EDGE for name in points]
    columns = np.array(list(points.values())).T
    axes.scatter(columns[0], columns[1], color=colours, s=30, zorder=2)
    axes.margins(x=0.1, y=0.1)
    axes.autoscale_view()
    shares = axes.transAxes.inverted().transform(axes.transData.transform(list(points.values())))
    taken = [(x - GAP / 2, y - LINE / 3, x + GAP / 2, y + LINE / 3) for x, y in shares]
    for name, (x, y) in zip(points, shares, strict=True):
        width = LETTER * len(name)
        for rise, side in product(RISES, ("left", "right")):
            anchor, middle = (x + GAP if side == "left" else x - GAP), y + rise * LINE
            left = anchor if side == "left" else anchor - width
            box = (left, middle - LINE / 2, left + width, middle + LINE / 2)
            if min(box) >= 0 and max(box) <= 1 and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        style = FRONT_LABEL if name in best else LABEL
        axes.annotate(name, (anchor, middle), xycoords="axes fraction", ha=side, va="center", parse_math=False, **style)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Do two boxes (left, low, right, high) share area?"""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _rank_line(axes: Axes, most: int, difference: float) -> None:
    """The axis of ranks 1..most at height 0, and the critical difference as a length over it."""
    axes.set_axis_off()
    axes.plot([1, most], [0, 0], color=INK, linewidth=1)
    for rank in range(1, most + 1):
        axes.plot([rank, rank], [0, 0.2], color=INK, linewidth=1)
        axes.annotate(str(rank), (rank, 0.3), ha="center", va="bottom", fontsize=8, color=INK)
    axes.plot([1, 1 + difference], [1.5, 1.5], color=NEW, linewidth=2)
    axes.annotate(f"critical difference {difference:.2f}", (1, 1.6), va="bottom", fontsize=8, color=NEW)


def _require(values: Mapping[str, float], what: str, *, least: float) -> None:
    for name, value in values.items():
        if not (isfinite(value) and value >= least):
            raise InputError(f"The {what} of model {name!r} is {value}; expected a number of at least {least:g}.")
