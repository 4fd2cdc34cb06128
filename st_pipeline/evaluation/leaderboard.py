"""The leaderboard: all scores of a stream, and the table a person reads first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import PUBLISHED, SCHEMA, over_seeds


def collect(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All tidy rows, in a fixed order."""
    found = [frame for frame in frames if len(frame)]
    rows = pl.concat(found) if found else pl.DataFrame(schema=SCHEMA)
    return rows.sort("model", "trained_through", "period", "cohort", maintain_order=True)


def summary(scores: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """One row per model, best first: means over periods and seeds of the error right after learning each period.

    Columns: model, protocol, seeds (their number), periods, mae_std (standard deviation over the seeds), mae (published
    average), mae_last (step H), rmse, wape, r2 (steps 1..H), skill (percent below the weekly naive forecast on the
    same periods), forgetting, backward_transfer.
    """
    diagonal = scores.filter((pl.col("trained_through") == pl.col("period")) & (pl.col("cohort") == "all"))
    wanted = {
        "mae": ("mae", PUBLISHED),
        "mae_last": ("mae", f"at:{horizon}"),
        "rmse": ("rmse", f"upto:{horizon}"),
        "wape": ("wape", f"upto:{horizon}"),
        "r2": ("r2", f"upto:{horizon}"),
    }
    weekly = _by_period(diagonal.filter(pl.col("model") == "naive_weekly"), *wanted["mae"])
    rows = []
    for (model, protocol), every in diagonal.group_by("model", "protocol", maintain_order=True):
        own = over_seeds(every)
        errors = _by_period(own, *wanted["mae"])
        matrix = PeriodMatrix.of(scores.filter(pl.col("model") == model))
        row: dict[str, Any] = {"model": model, "protocol": protocol, "seeds": every["seed"].n_unique()}
        row |= {"periods": len(errors), "mae_std": _spread(every, *wanted["mae"])}
        row |= {name: _mean(_by_period(own, *key).values()) for name, key in wanted.items()}
        shared = [(errors[key], weekly[key]) for key in errors if key in weekly]
        own_error, base = (sum(column) for column in zip(*shared, strict=True)) if shared else (0.0, 0.0)
        row["skill"] = 100 * (1 - own_error / base) if base else None
        rows.append({**row, "forgetting": matrix.forgetting, "backward_transfer": matrix.backward_transfer})
    schema = {"model": pl.String, "protocol": pl.String, "seeds": pl.Int64, "periods": pl.Int64} | dict.fromkeys(
        ["mae_std", *wanted, "skill", "forgetting", "backward_transfer"], pl.Float64
    )
    return pl.DataFrame(rows, schema=schema).sort("mae", "model", nulls_last=True)


def _by_period(rows: pl.DataFrame, metric: str, horizon: str) -> dict[str, float]:
    chosen = rows.filter((pl.col("metric") == metric) & (pl.col("horizon") == horizon) & pl.col("value").is_not_null())
    return dict(chosen.select("period", "value").sort("period").iter_rows())


def _spread(rows: pl.DataFrame, metric: str, horizon: str) -> float | None:
    """Standard deviation over the seeds of the mean over periods; None of one seed."""
    chosen = rows.filter((pl.col("metric") == metric) & (pl.col("horizon") == horizon))
    means = chosen.group_by("seed").agg(pl.col("value").mean())["value"]
    return means.std() if len(means) > 1 else None  # type: ignore[return-value]


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
