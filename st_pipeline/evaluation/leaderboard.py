"""The leaderboard: all scores of a stream, and the table a person reads first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from st_pipeline.evaluation.metrics import PUBLISHED
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.scoring import SCHEMA


def collect(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All tidy rows, in a fixed order."""
    found = [frame for frame in frames if len(frame)]
    rows = pl.concat(found) if found else pl.DataFrame(schema=SCHEMA)
    return rows.sort("model", "trained_through", "period", "cohort", maintain_order=True)


def summary(scores: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """One row per model, best first: means over the periods of the error right after learning each of them.

    Columns: model, protocol, periods, mae (published average), mae_last (step H), rmse, wape, r2 (steps 1..H),
    skill (percent below the weekly naive forecast on the same periods), forgetting, backward_transfer.
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
    for (model, protocol), own in diagonal.group_by("model", "protocol", maintain_order=True):
        errors = _by_period(own, *wanted["mae"])
        matrix = PeriodMatrix.of(scores.filter(pl.col("model") == model))
        row: dict[str, Any] = {"model": model, "protocol": protocol, "periods": len(errors)}
        row |= {name: _mean(_by_period(own, *key).values()) for name, key in wanted.items()}
        shared = [(errors[key], weekly[key]) for key in errors if key in weekly]
        own_error, base = (sum(column) for column in zip(*shared, strict=True)) if shared else (0.0, 0.0)
        row["skill"] = 100 * (1 - own_error / base) if base else None
        rows.append({**row, "forgetting": matrix.forgetting, "backward_transfer": matrix.backward_transfer})
    schema = {"model": pl.String, "protocol": pl.String, "periods": pl.Int64} | dict.fromkeys(
        [*wanted, "skill", "forgetting", "backward_transfer"], pl.Float64
    )
    return pl.DataFrame(rows, schema=schema).sort("mae", "model", nulls_last=True)


def costs(diagnostics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pl.DataFrame:
    """Cost ledger, one row per model and period, from model -> period -> diagnostics."""
    rows = [
        {
            "model": model,
            "period": period,
            "seconds": cost["seconds"],
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
    schema = {"model": pl.String, "period": pl.String, "seconds": pl.Float64, "epochs": pl.Int64, "trainable": pl.Int64}
    schema |= {"parameters": pl.Int64, "peak_mib": pl.Float64, "ms_per_forecast": pl.Float64, "device": pl.String}
    return pl.DataFrame(rows, schema=schema)


def _by_period(rows: pl.DataFrame, metric: str, horizon: str) -> dict[str, float]:
    chosen = rows.filter((pl.col("metric") == metric) & (pl.col("horizon") == horizon) & pl.col("value").is_not_null())
    return dict(chosen.select("period", "value").sort("period").iter_rows())


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
