"""The pictures a person looks for, as matplotlib figures; one look for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.positions import Positions
from st_pipeline.evaluation.period_matrix import PeriodMatrix

INK, GREY, LIGHT = "#1b2733", "#8996a3", "#dfe4e9"
PALETTE = ("#2563a8", "#d1495b", "#2a9d6f", "#e09f3e", "#7b5ea7", "#4f8a8b", "#a65628", "#5c6b7a")
NEW = "#d1495b"
MOST_EDGES = 4000  # drawn; beyond it the heaviest


def network_plot(
    places: Positions, graph: Adjacency, *, new: Sequence[int], errors: Sequence[float | None] | None = None
) -> Figure:
    """Sensors and edges on the map or plane, new sensors ringed; coloured by error where given."""
    figure, axes = _figure(6.4, 5.2)
    plane, known = places.plane, places.known
    if not len(known):
        axes.text(0.5, 0.5, "no sensor has a position", ha="center", va="center", transform=axes.transAxes, color=GREY)
        axes.set_axis_off()
        return figure
    drawn = np.argsort(-graph.weight, kind="stable")[:MOST_EDGES]
    row, column = graph.row[drawn], graph.column[drawn]
    both = np.isin(row, known) & np.isin(column, known)
    segments = np.stack([plane[row[both]], plane[column[both]]], axis=1)
    axes.add_collection(LineCollection(list(segments), colors=LIGHT, linewidths=0.8, zorder=1))
    values = np.array([np.nan if errors is None or errors[i] is None else errors[i] for i in known], dtype=float)
    if np.isfinite(values).any():
        dots = axes.scatter(plane[known, 0], plane[known, 1], c=values, cmap="viridis_r", s=26, zorder=2)
        figure.colorbar(dots, ax=axes, shrink=0.7, label="error, % of the flow (WAPE)" if errors is not None else "")
    else:
        axes.scatter(plane[known, 0], plane[known, 1], color=PALETTE[0], s=26, zorder=2)
    fresh = np.intersect1d(known, np.asarray(new, dtype=np.int64))
    if len(fresh):
        axes.scatter(
            plane[fresh, 0],
            plane[fresh, 1],
            facecolors="none",
            edgecolors=NEW,
            s=90,
            linewidths=1.6,
            zorder=3,
            label="new in this period",
        )
        axes.legend(frameon=False, loc="best", fontsize=8)
    axes.set_xlabel("longitude" if places.geographic else "x in metres")
    axes.set_ylabel("latitude" if places.geographic else "y in metres")
    middle = float(np.radians(plane[known][:, 1].mean())) if places.geographic else 0.0
    axes.set_aspect(1 / max(np.cos(middle), 0.05))
    return figure


def horizon_plot(scores: pl.DataFrame) -> Figure:
    """Mean absolute error at each step, a line per model; naive forecasts are dashed."""
    figure, axes = _figure(6.4, 3.6)
    chosen = scores.filter(
        (pl.col("metric") == "mae") & (pl.col("cohort") == "all") & pl.col("horizon").str.starts_with("at:")
    ).with_columns(pl.col("horizon").str.slice(3).cast(pl.Int64).alias("step"))
    models = chosen["model"].unique(maintain_order=True).to_list()
    colours = iter(PALETTE * 10)
    for name in models:
        own = chosen.filter(pl.col("model") == name).sort("step")
        naive = name.startswith("naive") or name == "historical_average"
        style: dict[str, Any] = (
            {"color": GREY, "linestyle": "--", "linewidth": 1} if naive else {"color": next(colours), "linewidth": 1.8}
        )
        axes.plot(own["step"], own["value"], **style)
        if len(own):
            axes.annotate(
                name,
                (own["step"][-1], own["value"][-1]),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                color=style["color"],
            )
    axes.set_xlabel("forecast step")
    axes.set_ylabel("mean absolute error")
    axes.margins(x=0.02)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.22)
    axes.set_ylim(bottom=0)
    return figure


def matrix_plot(matrix: PeriodMatrix, title: str) -> Figure:
    """R[i, j] as a heat map: rows are models after a period, columns the periods they are tested on."""
    size = len(matrix.periods)
    figure, axes = _figure(1.6 + 0.62 * size, 1.3 + 0.5 * size)
    axes.imshow(np.ma.masked_invalid(matrix.errors), cmap="YlOrRd", aspect="auto")
    middle = np.nanmean(matrix.errors) if np.isfinite(matrix.errors).any() else 0.0
    for i, j in np.argwhere(np.isfinite(matrix.errors)):
        value = matrix.errors[i, j]
        axes.text(
            j, i, f"{value:.3g}", ha="center", va="center", fontsize=8, color="white" if value > 1.15 * middle else INK
        )
    axes.set_xticks(range(size), matrix.periods, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(size), matrix.periods, fontsize=8)
    axes.set_xlabel("tested on")
    axes.set_ylabel("after learning")
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(visible=False)
    return figure


def trace_plot(trace: Mapping[str, Any], *, timezone: str, horizon: int, unit: str) -> Figure:
    """Truth and forecasts of one sensor over the last days of the test part."""
    figure, axes = _figure(8.4, 2.5)
    zone = ZoneInfo(timezone)
    times = [datetime.fromtimestamp(second, UTC).astimezone(zone).replace(tzinfo=None) for second in trace["times"]]
    step = times[1] - times[0] if len(times) > 1 else None
    series = {
        name: np.array([np.nan if v is None else v for v in trace[name]], dtype=float)
        for name in ("truth", "forecast_first", "forecast_last")
    }
    at = date2num(times)
    axes.plot(at, series["truth"], color=INK, linewidth=1, label="measured")
    axes.plot(at, series["forecast_first"], color=PALETTE[0], linewidth=1, alpha=0.9, label="forecast, step 1")
    if step is not None and horizon > 1:
        later = date2num([moment + step * (horizon - 1) for moment in times])
        axes.plot(
            later, series["forecast_last"], color=PALETTE[1], linewidth=1, alpha=0.9, label=f"forecast, step {horizon}"
        )
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator := AutoDateLocator()))
    axes.xaxis.set_major_locator(locator)
    wape = "" if trace["wape"] is None else f", WAPE {trace['wape']:.1f} %"
    axes.set_title(f"{trace['rank']} sensor: {trace['sensor_id']}{wape}", fontsize=9, loc="left")
    axes.set_ylabel(unit or "value")
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.18))
    return figure


def cohort_plot(scores: pl.DataFrame, models: Sequence[str]) -> Figure:
    """Published average error by birth period of the sensors, bars per model."""
    figure, axes = _figure(6.4, 3.2)
    chosen = scores.filter(
        (pl.col("metric") == "mae") & (pl.col("horizon") == "published_average") & (pl.col("cohort") != "all")
    )
    cohorts = chosen["cohort"].unique().sort().to_list()
    width = 0.8 / max(len(models), 1)
    for index, name in enumerate(models):
        own = dict(chosen.filter(pl.col("model") == name).select("cohort", "value").iter_rows())
        heights = [np.nan if own.get(cohort) is None else own[cohort] for cohort in cohorts]
        axes.bar(
            np.arange(len(cohorts)) + index * width - 0.4 + width / 2,
            heights,
            width,
            color=PALETTE[index % len(PALETTE)],
            label=name,
        )
    axes.set_xticks(range(len(cohorts)), cohorts, fontsize=8)
    axes.set_xlabel("sensors first heard in")
    axes.set_ylabel("mean absolute error")
    axes.legend(frameon=False, fontsize=7, ncols=3)
    return figure


def growth_plot(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Sensors of each period: retained, new, silent."""
    figure, axes = _figure(6.4, 2.6)
    keys = list(counts)
    bottom = np.zeros(len(keys))
    for name, colour in (("retained", PALETTE[0]), ("new", NEW), ("silent", LIGHT)):
        heights = np.array([counts[key][name] for key in keys], dtype=float)
        axes.bar(keys, heights, 0.6, bottom=bottom, color=colour, label=name)
        bottom += heights
    axes.set_ylabel("sensors")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(top=float(bottom.max(initial=1)) * 1.22)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper left")
    return figure


def loss_curve(facts: Mapping[str, Any]) -> Figure:
    """Training loss and validation error by epoch, the kept epoch marked."""
    figure, axes = _figure(5.6, 3.0)
    epochs = np.arange(1, len(facts["train_loss"]) + 1)
    axes.plot(epochs, facts["train_loss"], color=GREY, label="training loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss", color=GREY)
    other = axes.twinx()
    other.plot(epochs, facts["validation_error"], color=PALETTE[0], label="validation error")
    other.axvline(facts["best_epoch"], color=NEW, linewidth=1, linestyle=":")
    other.set_ylabel("validation error", color=PALETTE[0])
    other.spines[["top"]].set_visible(False)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(visible=True, color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes
