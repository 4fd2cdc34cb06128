"""Pictures of a study: the error against the setting that is varied, and against what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl
from matplotlib.figure import Figure

from st_pipeline.reporting.canvas import NEW, PALETTE, new_figure
from st_pipeline.reporting.prompt_plots import WIDE, cost_plot, few_shot_plot, rank_plot

FULL = "full"  # the rank of a table of prompts without factors
MOST_LETTERS = 8  # of a value's text, beyond which texts on an axis are turned


def study_plot(table: pl.DataFrame, errors: pl.DataFrame, *, error: str = "mean absolute error") -> Figure:
    """The figure of EAC that shows a setting: 7 for the rank, 5 for the share trained on; else error by value.

    Args:
        table: rows of `studies.study_table`, the base first.
        errors: rows of `studies.study_errors`.
        error: what the errors are.
    """
    plot = PLOTS.get(table["key"][0])
    return plot(table, errors, error) if plot else value_plot(table, error=error)


def study_cost_plot(table: pl.DataFrame, *, error: str = "mean absolute error") -> Figure:
    """Error against training time of the study's models (Figure 6)."""
    return cost_plot(table.select("model", "seconds", error="mae", tuned="trainable"), error=error)


def value_plot(table: pl.DataFrame, *, error: str = "mean absolute error") -> Figure:
    """Error by value with the standard deviation over seeds; a line across is the base's error.

    Numbers stand where they belong on the axis, other values side by side in the order of the study.
    """
    known = table.drop_nulls("mae")
    figure, axes = new_figure(6.0, 3.4)
    values = known["value"].to_list()
    numbers = _numbers(values)
    places = numbers or list(range(len(values)))
    for model, value, height in table.head(1).drop_nulls("mae").select("model", "value", "mae").iter_rows():
        axes.axhline(height, color=NEW, linestyle="--", linewidth=1, label=f"{model}, {value}")
        axes.legend(frameon=False, fontsize=7)
    order = sorted(range(len(places)), key=places.__getitem__)
    means, spread = ([known[name].fill_null(0.0)[place] for place in order] for name in ("mae", "mae_std"))
    line = "-" if numbers else ""
    axes.errorbar(
        [places[place] for place in order], means, yerr=spread, color=PALETTE[0], marker="o", linestyle=line, capsize=2
    )
    if not numbers:
        turned = max(map(len, values)) > MOST_LETTERS
        axes.set_xticks(places, values, fontsize=8, rotation=35 if turned else 0, ha="right" if turned else "center")
    elif min(places) > 0 and max(places) > WIDE * min(places):
        axes.set_xscale("log")
    axes.set_xlabel(known["key"][0])
    axes.set_ylabel(error)
    return figure


def _by_rank(table: pl.DataFrame, errors: pl.DataFrame, error: str) -> Figure:
    """Figure 7, a row per rank and seed; the full table is a line across."""
    by_seed = errors.group_by("value", "model", "seed", maintain_order=True).agg(pl.col("mae").mean().alias("error"))
    rank = pl.col("value").cast(pl.Int64, strict=False).alias("rank")
    rows = by_seed.join(table.select("model", "tuned_share"), on="model", how="left", maintain_order="left")
    rows = rows.with_columns(rank).filter(pl.col("rank").is_not_null() | (pl.col("value") == FULL))
    return rank_plot(rows, error=error)


def _by_share(table: pl.DataFrame, errors: pl.DataFrame, error: str) -> Figure:
    """Figure 5: a line per share that is trained on."""
    share = pl.col("value").cast(pl.Float64).alias("train")
    model = pl.lit(table["model"][0]).alias("model")
    return few_shot_plot(errors.select(model, share, "period", error="mae"), error=error)


def _numbers(values: Sequence[str]) -> list[float]:
    """The values as numbers; nothing if one of them is none."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []


PLOTS: Mapping[str, Callable[[pl.DataFrame, pl.DataFrame, str], Figure]] = {
    "prompt_pool.rank": _by_rank,
    "training.share": _by_share,
}
