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
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.model_config import reference_models
from st_pipeline.reporting.canvas import EDGE, GREY, INK, LIGHT, NEW, PALETTE, new_figure, new_map, no_positions, short

TITLE_LENGTH = 40  # letters of a sensor id that fit in a title
LABEL_GAP = 0.046  # of the axis, between labels
MOST_EDGES = 4000  # drawn; beyond it the heaviest


def network_plot(
    places: Positions, graph: Adjacency, *, new: Sequence[int], errors: Sequence[float | None] | None = None
) -> Figure:
    """Sensors and edges on the map or plane, new sensors ringed; coloured by error where given."""
    if missing := no_positions(places):
        return missing
    figure, axes = new_map(places)
    plane, known = places.plane, places.known
    drawn = np.argsort(-graph.weight, kind="stable")[:MOST_EDGES]
    row, column = graph.row[drawn], graph.column[drawn]
    both = np.isin(row, known) & np.isin(column, known)
    segments = np.stack([plane[row[both]], plane[column[both]]], axis=1)
    axes.add_collection(LineCollection(list(segments), colors=EDGE, linewidths=0.8, zorder=1))
    values = np.array([np.nan if errors is None or errors[i] is None else errors[i] for i in known], dtype=float)
    if np.isfinite(values).any():
        dots = axes.scatter(plane[known, 0], plane[known, 1], c=values, cmap="viridis_r", s=26, zorder=2)
        figure.colorbar(dots, ax=axes, shrink=0.7, label="error in % of the level (WAPE)", pad=0.02)
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
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, fontsize=8)
    return figure


def horizon_plot(scores: pl.DataFrame) -> Figure:
    """Mean absolute error at each step, a line per model; naive forecasts and baselines are dashed."""
    figure, axes = new_figure(6.4, 4.0)
    chosen = scores.filter(
        (pl.col("metric") == "mae") & (pl.col("cohort") == "all") & pl.col("horizon").str.starts_with("at:")
    ).with_columns(pl.col("horizon").str.slice(3).cast(pl.Int64).alias("step"))
    colours = iter(PALETTE * 10)
    ends: list[tuple[float, str, str]] = []
    for name in chosen["model"].unique(maintain_order=True).to_list():
        own = chosen.filter((pl.col("model") == name) & pl.col("value").is_not_null()).sort("step")
        if not len(own):
            continue
        naive = name in reference_models()
        colour = GREY if naive else next(colours)
        axes.plot(
            own["step"], own["value"], color=colour, linestyle="--" if naive else "-", linewidth=1 if naive else 1.8
        )
        ends.append((float(own["value"][-1]), name, colour))
    axes.set_xlabel("forecast step")
    axes.set_ylabel("mean absolute error")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    last = axes.get_xlim()[1]
    ends.sort()
    for place, (_, name, colour) in zip(_apart([value for value, _, _ in ends], axes), ends, strict=True):
        where: dict[str, Any] = {
            "xytext": (6, 0),
            "textcoords": "offset points",
            "va": "center",
            "annotation_clip": False,
        }
        axes.annotate(name, (last, place), fontsize=7, color=colour, **where)
    return figure


def _apart(values: Sequence[float], axes: Axes) -> list[float]:
    """Ascending values moved apart as far as labels of one line need, kept inside the axes."""
    low, high = axes.get_ylim()
    gap = LABEL_GAP * (high - low)
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    ceiling = high
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    return places


def matrix_plot(matrix: PeriodMatrix, title: str, limits: tuple[float, float] | None = None) -> Figure:
    """R[i, j] as a heat map: rows are models after a period, columns the periods they are tested on.

    Args:
        limits: errors at the ends of the colour scale, so that several matrices can be compared.
    """
    size = len(matrix.periods)
    figure, axes = new_figure(1.6 + 0.62 * size, 1.3 + 0.5 * size)
    low, high = limits or (np.nanmin(matrix.errors), np.nanmax(matrix.errors))
    axes.imshow(np.ma.masked_invalid(matrix.errors), cmap="YlOrRd", aspect="auto", vmin=low, vmax=high)
    for i, j in np.argwhere(np.isfinite(matrix.errors)):
        value = matrix.errors[i, j]
        dark = (value - low) > 0.6 * (high - low)
        axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=8, color="white" if dark else INK)
    axes.set_xticks(range(size), matrix.periods, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(size), matrix.periods, fontsize=8)
    axes.set_xlabel("tested on")
    axes.set_ylabel("after learning")
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(visible=False)
    return figure


def trace_plot(trace: Mapping[str, Any], *, timezone: str, horizon: int, unit: str) -> Figure:
    """Truth and forecasts of one sensor over the last days of the test part."""
    figure, axes = new_figure(12.8, 2.7)
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
    name = short(str(trace["sensor_id"]), TITLE_LENGTH)
    axes.set_title(f"{trace['rank']} sensor: {name}{wape}", fontsize=9, loc="left", parse_math=False)
    axes.set_ylabel(unit or "value", parse_math=False)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.18))
    return figure


def cohort_plot(scores: pl.DataFrame, models: Sequence[str]) -> Figure:
    """Published average error by birth period of the sensors, bars per model."""
    figure, axes = new_figure(6.4, 3.2)
    chosen = scores.filter((pl.col("metric") == "mae") & (pl.col("horizon") == PUBLISHED) & (pl.col("cohort") != "all"))
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
    figure, axes = new_figure(6.4, 2.6)
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
    figure, axes = new_figure(5.6, 3.0)
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
