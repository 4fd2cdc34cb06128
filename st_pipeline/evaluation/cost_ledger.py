"""The cost ledger: what each model's updates took, and the error that they brought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from st_pipeline.evaluation.rows import PUBLISHED, over_seeds

COSTS = {
    "model": pl.String,
    "period": pl.String,
    "seconds": pl.Float64,
    "seeds": pl.Int64,
    "epochs": pl.Float64,
    "trainable": pl.Int64,
    "parameters": pl.Int64,
    "peak_mib": pl.Float64,
    "ms_per_forecast": pl.Float64,
    "device": pl.String,
}
LEDGER = {
    **COSTS,
    "mae": pl.Float64,  # published average, right after learning the period
    "mae_new": pl.Float64,  # the same of the sensors born in the period
    "seconds_so_far": pl.Float64,
    "mae_so_far": pl.Float64,  # mean over the periods up to this one
}
PLACE = ["model", "period"]


def costs(diagnostics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pl.DataFrame:
    """One row per model and period, from model -> period -> diagnostics; means over the seeds: columns `COSTS`."""
    rows = [
        {
            "model": model,
            "period": period,
            "seconds": cost["seconds"],
            "seeds": cost.get("seeds", 1),
            "epochs": cost["epochs"],
            "trainable": cost["trainable"],
            "parameters": cost["parameters"],
            "peak_mib": cost["peak_bytes"] / (1 << 20),
            "ms_per_forecast": cost["milliseconds_per_forecast"],
            "device": cost["device"],
        }
        for model, periods in diagnostics.items()
        for period, document in sorted(periods.items())
        if (cost := document.get("cost"))
    ]
    return pl.DataFrame(rows, schema=COSTS)


def costs_by_model(table: pl.DataFrame) -> pl.DataFrame:
    """One row per model of `costs`: seconds in all and of a later period, size and latency of the last period."""
    return table.group_by("model", maintain_order=True).agg(
        pl.col("seconds").sum(),
        pl.col("seconds").slice(1).mean().alias("later_seconds"),
        pl.col("trainable", "parameters", "ms_per_forecast").last(),
        pl.col("peak_mib").max(),
    )


def ledger(diagnostics: Mapping[str, Mapping[str, Mapping[str, Any]]], scores: pl.DataFrame) -> pl.DataFrame:
    """`costs` with what they brought, and both so far: columns `LEDGER`, periods of a model in ascending order.

    Args:
        scores: tidy rows; what was not scored is null.
    """
    chosen = scores.filter(
        (pl.col("trained_through") == pl.col("period"))
        & (pl.col("metric") == "mae")
        & (pl.col("horizon") == PUBLISHED)
        & ((pl.col("cohort") == "all") | (pl.col("cohort") == pl.col("period")))
    )
    means = over_seeds(chosen)
    every = means.filter(pl.col("cohort") == "all").select(*PLACE, mae="value")
    born = means.filter(pl.col("cohort") != "all").select(*PLACE, mae_new="value")
    found = costs(diagnostics)
    for scored in (every, born):
        found = found.join(scored, on=PLACE, how="left", maintain_order="left")
    scored_so_far = pl.col("mae").is_not_null().cum_sum()
    mean = pl.when(scored_so_far > 0).then(pl.col("mae").fill_null(0).cum_sum() / scored_so_far)
    return found.with_columns(
        seconds_so_far=pl.col("seconds").cum_sum().over("model"), mae_so_far=mean.over("model")
    ).select(pl.col(name).cast(dtype) for name, dtype in LEDGER.items())
