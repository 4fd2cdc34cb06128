"""Pictures of node prompts and of what they cost, after the figures of EAC (ICLR 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from st_pipeline.models.prompt_pool import WATCHED_AT
from st_pipeline.reporting.canvas import GREY, INK, NEW, PALETTE, new_figure, nothing

LARGEST_BUBBLE = 900.0  # square points
MOST_PERIODS = 12  # named on an axis or in a legend; beyond it every second, third, ...
WIDE = 20  # times the smallest value, from where on an axis is logarithmic


def epoch_deviation_plot(history: Mapping[str, Sequence[float]]) -> Figure:
    """Deviation of the prompts after every epoch, the periods one behind the other (Figure 3).

    Args:
        history: period -> deviation after each of its epochs.
    """
    figure, axes = new_figure(6.4, 3.2)
    trained = {period: values for period, values in history.items() if len(values)}
    if not trained:
        return nothing(figure, axes, "no epoch was recorded")
    begin = 0
    for (period, values), colour in zip(trained.items(), _shades(len(trained)), strict=True):
        epochs = np.arange(begin + 1, begin + len(values) + 1)
        marker = "." if len(values) == 1 else None
        axes.plot(epochs, values, color=colour, linewidth=1.6, marker=marker, label=period)
        begin += len(values)
        axes.axvline(begin + 0.5, color=GREY, linewidth=0.6, linestyle=":")
    _legend_of_periods(axes)
    axes.set_xlabel("epoch, counted over all periods")
    axes.set_ylabel("deviation of the prompts")
    return figure


def period_deviation_plot(analysis: pl.DataFrame) -> Figure:
    """Deviation of the inputs without and with prompts, and what Proposition 1 makes of it, per period (Figure 3).

    Args:
        analysis: rows of `prompt_analysis.analyse`; several seeds enter with their mean.
    """
    figure, axes = new_figure(6.4, 3.2)
    known = analysis.drop_nulls(["deviation_before", "deviation_after", "closed_form"])
    if known.is_empty():
        return nothing(figure, axes, "no period was analysed with its inputs")
    table = known.group_by("period").agg(pl.col("^deviation_.*|closed_form$").mean()).sort("period")
    place = np.arange(len(table))
    predicted = table["deviation_before"] + table["closed_form"]
    axes.plot(place, table["deviation_before"], color=GREY, marker=".", label="inputs, D(X)")
    axes.plot(place, table["deviation_after"], color=PALETTE[0], marker=".", label="with prompts, D(X + P)")
    axes.plot(place, predicted, color=PALETTE[1], linestyle="--", marker=".", label="D(X) + closed form")
    _ticks_of_periods(axes, table["period"].to_list())
    axes.set_ylabel("average node deviation")
    axes.legend(frameon=False, fontsize=7)
    return figure


def spectrum_plot(shares: Mapping[str, Sequence[float]], *, mark: int = WATCHED_AT) -> Figure:
    """Normalised cumulative singular values of the prompts, a curve per period (Figure 4).

    Args:
        shares: period -> `Spectrum.shares`.
        mark: the singular value that a line marks.
    """
    figure, axes = new_figure(5.6, 3.6)
    known = {period: values for period, values in shares.items() if len(values)}
    if not known:
        return nothing(figure, axes, "no period has prompts")
    for (period, values), colour in zip(known.items(), _shades(len(known)), strict=True):
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, marker=".", linewidth=1.4, label=period)
    axes.axvline(mark, color=NEW, linewidth=1, linestyle=":")
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("singular values, largest first")
    axes.set_ylabel("cumulative share")
    _legend_of_periods(axes)
    return figure


def rank_plot(scores: pl.DataFrame, *, error: str = "mean absolute error") -> Figure:
    """Error against the rank of the pool, with the share of parameters that are tuned (Figure 7).

    Args:
        scores: columns rank (null of a full table, drawn as a line across), error, tuned_share in shares of 1; rows
            of one rank enter with their mean and, as bars, their standard deviation.
        error: what the errors are.
    """
    figure, axes = new_figure(6.0, 3.4)
    by_rank = (
        scores.drop_nulls("error")
        .group_by("rank")
        .agg(pl.col("error").mean(), pl.col("error").std().fill_null(0.0).alias("spread"), pl.col("tuned_share").mean())
    )
    table, full = by_rank.drop_nulls("rank").sort("rank"), by_rank.filter(pl.col("rank").is_null())
    if by_rank.is_empty():
        return nothing(figure, axes, "no rank was scored")
    other = axes.twinx()
    other.bar(table["rank"], 100 * table["tuned_share"], 0.5, color=GREY, alpha=0.25)
    other.set_ylim(0, 100)
    other.set_ylabel("tuned parameters in %", color=GREY)
    other.tick_params(colors=GREY, labelsize=8)
    other.spines[["top", "right"]].set_visible(False)
    axes.set_zorder(other.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.errorbar(table["rank"], table["error"], yerr=table["spread"], color=PALETTE[0], marker="o", capsize=2)
    for value, share in full.select("error", "tuned_share").iter_rows():
        label = "full table" if share is None else f"full table, {100 * share:.0f} % tuned"
        axes.axhline(value, color=NEW, linestyle="--", linewidth=1.2, label=label)
        axes.legend(frameon=False, fontsize=7)
    axes.set_xticks(table["rank"].to_list())
    axes.set_xlabel("rank of the prompt pool")
    axes.set_ylabel(error, color=PALETTE[0])
    return figure


def few_shot_plot(scores: pl.DataFrame, *, error: str = "error") -> Figure:
    """Error per period of models trained on a share of each period, the largest share as a solid line (Figure 5).

    Args:
        scores: columns model, train (share of the period that is trained on), period, error; rows that agree in the
            first three enter with their mean.
        error: what the errors are.
    """
    figure, axes = new_figure(6.4, 3.6)
    known = scores.drop_nulls("error")
    if known.is_empty():
        return nothing(figure, axes, "no model was scored")
    periods = known["period"].unique().sort().to_list()
    styles = dict(
        zip(known["train"].unique().sort(descending=True).to_list(), ("-", "--", ":", "-.") * 9, strict=False)
    )
    colours = dict(zip(known["model"].unique(maintain_order=True).to_list(), PALETTE * 9, strict=False))
    place = {period: index for index, period in enumerate(periods)}
    means = known.group_by("model", "train", "period").agg(pl.col("error").mean()).sort("period")
    for model, colour in colours.items():
        for train, style in styles.items():
            own = means.filter((pl.col("model") == model) & (pl.col("train") == train))
            where = [place[period] for period in own["period"]]
            label = f"{model}, {100 * train:g} %"
            if where:
                axes.plot(where, own["error"], color=colour, linestyle=style, marker=".", linewidth=1.4, label=label)
    _ticks_of_periods(axes, periods)
    axes.set_ylabel(error)
    axes.legend(frameon=False, fontsize=7, ncols=2)
    return figure


def cost_plot(ledger: pl.DataFrame, *, error: str = "mean absolute error") -> Figure:
    """Error against training time, the area of a bubble being the tuned parameters (Figure 6).

    Args:
        ledger: columns model, error, tuned (parameters), seconds (per period); a row per model.
        error: what the errors are.
    """
    figure, axes = new_figure(6.0, 3.8)
    known = ledger.drop_nulls(["error", "tuned", "seconds"])
    if known.is_empty():
        return nothing(figure, axes, "no model was scored with its cost")
    largest = max(1.0, float(known["tuned"].max()))  # type: ignore[arg-type]
    for index, (model, value, tuned, seconds) in enumerate(
        known.select("model", "error", "tuned", "seconds").iter_rows()
    ):
        colour = PALETTE[index % len(PALETTE)]
        area = LARGEST_BUBBLE * tuned / largest
        axes.scatter(seconds, value, s=area, color=colour, alpha=0.35, linewidths=0)
        axes.scatter(seconds, value, s=8, color=colour)
        away = (0, np.sqrt(area) / 2 + 3)
        text = f"{model}, {tuned:,.0f}"
        axes.annotate(
            text, (seconds, value), xytext=away, textcoords="offset points", ha="center", fontsize=7, color=INK
        )
    times = known["seconds"].to_numpy()
    if times.min() > 0 and times.max() > WIDE * times.min():
        axes.set_xscale("log")
    axes.margins(0.2)
    axes.set_xlabel("training seconds per period; area and number: tuned parameters")
    axes.set_ylabel(error)
    return figure


def _shades(count: int) -> list[tuple[float, float, float, float]]:
    """Colours of things in order, light to dark without the lightest."""
    return [tuple(shade) for shade in matplotlib.colormaps["viridis_r"](np.linspace(0.15, 1, count))]


def _legend_of_periods(axes: Axes) -> None:
    """Names of the lines drawn with a label, beside the axes."""
    lines, names = axes.get_legend_handles_labels()
    every = 1 + (len(names) - 1) // MOST_PERIODS
    axes.legend(lines[::every], names[::every], frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _ticks_of_periods(axes: Axes, periods: Sequence[str]) -> None:
    """Names at places 0, 1, ..."""
    every = 1 + (len(periods) - 1) // MOST_PERIODS
    axes.set_xticks(range(0, len(periods), every), periods[::every], rotation=35, ha="right", fontsize=8)
