"""The picture of a drill: how much skill each model keeps in each scenario."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st_pipeline.evaluation.drill import CLEAN
from st_pipeline.reporting.canvas import GREY, INK, PALETTE, new_figure, nothing

BAND = 0.6  # of the distance between scenarios, that the models of one take


def drill_plot(frame: pl.DataFrame) -> Figure:
    """Skill by scenario from the rows of `run_drill`, the mildest scenario on top.

    A large dot is the mean over seeds and periods, small ones are single runs, a line leads back to the skill without
    faults; a grey tick is the weekly naive forecast under the same faults. What was not survived is a cross at the
    left edge: its skill may be any number.
    """
    rows = _with_weekly_skill(frame)
    order = _mildest_first(rows)
    figure, axes = new_figure(7.2, 1.5 + 0.42 * max(len(order), 1))
    if not order:
        return nothing(figure, axes, "no model was drilled")
    models = rows["model"].unique(maintain_order=True).to_list()
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, name in enumerate(order):
        own = rows.filter(pl.col("scenario") == name)
        if (weekly := _mean(own["weekly_skill"])) is not None:
            axes.scatter([weekly], [place], marker="|", s=260, color=GREY, linewidths=1.6, zorder=2)
    for index, model in enumerate(models):
        offset = BAND * ((index + 0.5) / len(models) - 0.5)
        _draw_model(axes, rows.filter(pl.col("model") == model), order, offset, PALETTE[index % len(PALETTE)])
    axes.scatter([], [], marker="|", s=70, color=GREY, linewidths=1.6, label="weekly naive forecast, same faults")
    axes.set_yticks(range(len(order)), [name.replace("_", " ") for name in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel("skill: percent below the weekly naive forecast without faults")
    axes.legend(frameon=False, fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return figure


def _draw_model(axes: Axes, rows: pl.DataFrame, order: list[str], offset: float, colour: str) -> None:
    label = rows["model"][0]
    usual = _mean(rows.filter((pl.col("scenario") == CLEAN) & pl.col("survived"))["skill"])
    for place, name in enumerate(order):
        at = place + offset
        own = rows.filter(pl.col("scenario") == name)
        if not own["survived"].all():
            edge = axes.get_yaxis_transform()
            axes.scatter([0.012], [at], marker="x", s=40, color=colour, linewidths=1.8, transform=edge, zorder=4)
        kept = own.filter(pl.col("survived"))["skill"].drop_nulls()
        if (mean := _mean(kept)) is None:
            continue
        if usual is not None:
            axes.plot([usual, mean], [at, at], color=colour, linewidth=1, alpha=0.5, zorder=2)
        if len(kept) > 1:
            axes.scatter(kept, np.full(len(kept), at), s=8, color=colour, alpha=0.4, linewidths=0, zorder=3)
        axes.scatter([mean], [at], s=34, color=colour, zorder=4)
    axes.scatter([], [], s=34, color=colour, label=label)


def _with_weekly_skill(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with the skill of the weekly naive forecast under each scenario's faults."""
    keys = ["stream", "period"]
    usual = frame.filter(pl.col("scenario") == CLEAN).group_by(keys).agg(pl.col("weekly_mae").first().alias("usual"))
    skill = 100 * (1 - pl.col("weekly_mae") / pl.col("usual"))
    usable = pl.col("usual") > 0
    return frame.join(usual, on=keys, how="left", maintain_order="left").with_columns(
        pl.when(usable).then(skill).alias("weekly_skill")
    )


def _mildest_first(rows: pl.DataFrame) -> list[str]:
    """Scenarios by their mean loss over all models that survived them; `clean` is the first."""
    loss = pl.col("skill_loss").filter(pl.col("survived")).mean()
    found = rows.group_by("scenario", maintain_order=True).agg(
        loss.alias("loss"), (pl.col("scenario") != CLEAN).any().alias("fault")
    )
    return found.sort("fault", "loss", nulls_last=True, maintain_order=True)["scenario"].to_list()


def _mean(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_numpy()
    return float(np.mean(known)) if len(known) else None
