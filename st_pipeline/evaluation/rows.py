"""Tidy rows of scores: their columns, and what they say of a model trained with several seeds."""

from __future__ import annotations

import polars as pl

PUBLISHED = "published_average"
SCHEMA = {
    "stream": pl.String,
    "model": pl.String,
    "protocol": pl.String,
    "seed": pl.Int64,
    "trained_through": pl.String,
    "period": pl.String,
    "cohort": pl.String,
    "metric": pl.String,
    "horizon": pl.String,
    "value": pl.Float64,
}


def over_seeds(scores: pl.DataFrame) -> pl.DataFrame:
    """One row, the mean, for all seeds of a model; rows keep their order, the column `seed` is gone."""
    names = [name for name in SCHEMA if name not in ("seed", "value")]
    return scores.group_by(names, maintain_order=True).agg(pl.col("value").mean())
