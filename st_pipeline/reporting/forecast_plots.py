"""Pictures of forecasts as they were issued: rolling error, rolling coverage, a fan of one sensor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.reporting.canvas import EDGE, GREY, INK, LIGHT, PALETTE, new_figure, nothing, short

ROLLING = 7  # days
BAND = (88, 92)  # percent that a 90 % interval is to hold
BEFORE = 3  # times as many measured steps as forecast ones stand before a fan
FANS = (("q05", "q95", 0.18), ("q10", "q90", 0.28), ("q25", "q75", 0.4))
SIZE = (6.4, 3.2)


def error_plot(scores: pl.DataFrame) -> Figure:
    """Mean absolute error over the last seven days beside the weekly naive forecast's on the same cells.

    Args:
        scores: rows of `forecast_scores` of one cohort.
    """
    figure, axes = new_figure(*SIZE)
    days = _rolling(scores, "cells", ("mae", "naive_weekly_mae"))
    if days.is_empty():
        return nothing(figure, axes, "no truth has arrived yet")
    axes.plot(_dates(days), days["naive_weekly_mae"], color=GREY, linewidth=1, linestyle="--", label="weekly naive")
    axes.plot(_dates(days), days["mae"], color=PALETTE[0], linewidth=1.8, label="forecasts")
    axes.set_ylabel("mean absolute error")
    axes.set_ylim(bottom=0)
    return _dated(figure, axes)


def coverage_plot(scores: pl.DataFrame) -> Figure:
    """Share of the truth in the 90 % interval over the last seven days, with the band it is to stay in."""
    figure, axes = new_figure(*SIZE)
    days = _rolling(scores, "interval_cells", ("coverage_90",))
    if days.is_empty():
        return nothing(figure, axes, "no truth has arrived yet")
    axes.axhspan(*BAND, color=LIGHT, label=f"{BAND[0]} to {BAND[1]} %")
    axes.plot(_dates(days), 100 * days["coverage_90"], color=PALETTE[0], linewidth=1.8, label="in the 90 % interval")
    axes.set_ylabel("% of the truth")
    axes.set_ylim(min(80.0, 100 * float(days["coverage_90"].min() or 0) - 2), 100)  # type: ignore[arg-type]
    return _dated(figure, axes)


def fan_plot(forecasts: pl.DataFrame, tensor: SeriesTensor, *, unit: str) -> Figure | None:
    """A forecast of one sensor with its intervals, what was measured before and the truth; None if there is none.

    It is the newest forecast whose truth has arrived, of the sensor with the middle level among those forecast by the
    best tier.

    Args:
        forecasts: published rows of the period.
        tensor: readings of the period.
    """
    chosen = _shown(forecasts, tensor)
    if chosen is None:
        return None
    name = str(chosen["sensor_id"][0])
    figure, axes = new_figure(12.8, 3.0)
    zone = ZoneInfo(tensor.timezone)
    first, last = (int(chosen["target_time"].dt.epoch("s")[place]) for place in (0, -1))
    row = tensor.sensor_ids.index(name)
    steps = np.flatnonzero((tensor.times >= first - BEFORE * (last - first)) & (tensor.times <= last))
    real = np.where(tensor.observed[steps, row, 0], tensor.values[steps, row, 0], np.nan)
    at = date2num([_local(second, zone) for second in tensor.times[steps].tolist()])
    ahead = date2num([_local(int(second), zone) for second in chosen["target_time"].dt.epoch("s").to_list()])
    for low, high, alpha in FANS:
        known = chosen[low].is_not_null().to_numpy()
        bottom, top = (chosen[end].fill_null(np.nan).to_numpy() for end in (low, high))
        axes.fill_between(ahead, bottom, top, where=known.tolist(), color=PALETTE[0], alpha=alpha, linewidth=0)
    axes.plot(ahead, chosen["point"], color=PALETTE[0], linewidth=1.6, label="forecast, 50, 80 and 90 % intervals")
    axes.plot(at, real, color=INK, linewidth=1, marker=".", markersize=3, label="measured")
    axes.axvline(date2num(_local(first, zone)), color=EDGE, linewidth=1)
    tier = str(chosen["tier"][0])
    axes.set_title(f"sensor {short(name, 40)}, tier {tier}", fontsize=9, loc="left", parse_math=False)
    axes.set_ylabel(unit or "value", parse_math=False)
    return _dated(figure, axes)


def _shown(forecasts: pl.DataFrame, tensor: SeriesTensor) -> pl.DataFrame | None:
    """One forecast's rows by step."""
    newest = datetime.fromtimestamp(int(tensor.times[-1]), UTC)
    whole = forecasts.filter(
        (pl.col("vintage") == 1)
        & (pl.col("target_time").max().over("issued_at", "sensor_id") <= newest)
        & (pl.col("tier").to_physical() <= pl.col("tier").to_physical().min())
        & pl.col("point").is_not_null()
        & pl.col("sensor_id").is_in(tensor.sensor_ids)
    )
    if whole.is_empty():
        return None
    last = whole.filter(pl.col("issued_at") == pl.col("issued_at").max())
    levels = last.group_by("sensor_id").agg(pl.col("point").mean()).sort("point", "sensor_id")
    return last.filter(pl.col("sensor_id") == levels["sensor_id"][len(levels) // 2]).sort("horizon")


def _rolling(scores: pl.DataFrame, weight: str, names: tuple[str, ...]) -> pl.DataFrame:
    """Means of the seven days up to each day, each cell weighing the same."""
    known = scores.filter(pl.col(names[0]).is_not_null())
    sums = [(pl.col(name) * pl.col(weight)).sum().alias(name) for name in names]
    days = known.group_by("day").agg(pl.col(weight).sum(), *sums).sort("day")
    if days.is_empty():
        return days
    rolled = days.rolling("day", period=f"{ROLLING}d").agg(
        pl.col(weight).sum(), *(pl.col(name).sum() for name in names)
    )
    return rolled.with_columns(pl.col(name) / pl.col(weight) for name in names)


def _dates(days: pl.DataFrame) -> Any:
    return date2num([datetime.combine(day, datetime.min.time()) + timedelta(hours=12) for day in days["day"].to_list()])


def _local(seconds: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).replace(tzinfo=None)


def _dated(figure: Figure, axes: Any) -> Figure:
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator := AutoDateLocator()))
    axes.xaxis.set_major_locator(locator)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.14))
    return figure
