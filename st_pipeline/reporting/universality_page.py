"""The universality bench on the results page: what each variant does to every backbone, and the picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from st_pipeline.benches import BARE, RELEARNER, VARIANTS
from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.comparison import BETTER, LEVEL, WORSE
from st_pipeline.reporting.canvas import GREY, PALETTE, new_figure
from st_pipeline.reporting.markdown import changed, grid, number

COLUMNS = {
    "backbone": "backbone",
    "variant": "variant",
    "mae": "MAE",
    "mae_std": "± over seeds",
    "against": "against the bare one",
    "against_control": "against the control",
    "skill": "below weekly naive, %",
    "later_seconds": "seconds a later period",
    "parameters": "parameters",
    "trainable": "trained later",
}
ROW_HEIGHT = 0.34  # inches of a backbone in the picture
SPREAD = 0.2  # between variants, in backbones


@dataclass(frozen=True)
class BenchResults:
    """A universality bench: the configuration of its stream, and its table (columns `UNIVERSALITY`)."""

    config: StreamConfig
    table: pl.DataFrame

    @property
    def picture(self) -> str:
        """Name of its picture."""
        return f"results-{self.config.name}"


def bench_sections(bench: BenchResults, *, pictured: bool) -> list[str]:
    """Heading, what was run, the verdict of every variant, the table, the picture."""
    rows = [
        {
            **row,
            "backbone": f"`{row['backbone']}`",
            "against": changed(row),
            "against_control": changed(row, prefix="control_"),
        }
        for row in bench.table.to_dicts()
    ]
    counts = bench.table.select(pl.col("seeds", "periods").max()).row(0)
    told = ", ".join(
        f"{count} {name}{'s' * (count != 1)}" for count, name in zip(counts, ("seed", "period"), strict=True)
    )
    text = f"{bench.config.description}: {told}. {_best(bench.table)}"
    picture = f"![Change of error by variant](images/{bench.picture}.png)" if pictured else ""
    return [f"## {bench.config.name}", text, "\n".join(_verdicts(bench.table)), grid(rows, COLUMNS), picture]


def _best(table: pl.DataFrame) -> str:
    best = table.sort("mae").row(0, named=True)
    skill = "" if best["skill"] is None else f", {number(best['skill'])} % below the weekly naive forecast"
    return f"The best is `{best['model']}` at {number(best['mae'])}{skill}."


def _verdicts(table: pl.DataFrame) -> list[str]:
    """A line a variant: on how many backbones it is better, level and worse, and by how much."""
    lines = [_verdict(table, variant, "", "its backbone alone") for variant in VARIANTS if variant != BARE]
    lines.append(_verdict(table, RELEARNER, "control_", "its control of capacity"))
    return [line for line in lines if line]


def _verdict(table: pl.DataFrame, variant: str, prefix: str, other: str) -> str:
    rows = table.filter((pl.col("variant") == variant) & pl.col(f"{prefix}mark").is_not_null())
    if rows.is_empty():
        return ""
    counts = {mark: int((rows[f"{prefix}mark"] == mark).sum()) for mark in (BETTER, LEVEL, WORSE)}
    changes = rows[f"{prefix}relative"]
    told = ", ".join(f"{mark} on {count}" for mark, count in counts.items())
    low, middle, high = (float(np.quantile(changes.to_numpy(), share)) for share in (0, 0.5, 1))
    spread = f"median change of the error {middle:+.1f} %, from {low:+.1f} to {high:+.1f} %"
    return f"- `{variant}` against {other}, of {len(rows)} backbones: {told}; {spread}."


def bench_plot(table: pl.DataFrame) -> Figure | None:
    """Change of the error against the bare backbone, with intervals: a row a backbone, a colour a variant.

    None where no variant has a bare form beside it.
    """
    shown = table.filter(pl.col("relative").is_not_null())
    if shown.is_empty():
        return None
    names = list(dict.fromkeys(shown["backbone"]))
    variants = [name for name in VARIANTS if name in set(shown["variant"])]
    figure, axes = new_figure(6.4, 1.2 + ROW_HEIGHT * len(names))
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place, variant in enumerate(variants):
        rows: list[dict[str, Any]] = shown.filter(pl.col("variant") == variant).to_dicts()
        heights = [names.index(row["backbone"]) + SPREAD * (place - (len(variants) - 1) / 2) for row in rows]
        middle = np.array([row["relative"] for row in rows])
        sides = np.array(
            [[row["relative"] - row["relative_low"], row["relative_high"] - row["relative"]] for row in rows]
        )
        axes.errorbar(
            middle, heights, xerr=sides.T, fmt="o", markersize=3.5, linewidth=1, color=PALETTE[place], label=variant
        )
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("change of the error against the bare backbone, %")
    axes.legend(frameon=False, fontsize=7, ncols=len(variants), loc="lower left", bbox_to_anchor=(0, 1))
    return figure
