"""What a wrapper or a strategy does to each backbone: errors beside those of the bare one, with paired tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from st_pipeline.evaluation.comparison import compare
from st_pipeline.evaluation.rows import PUBLISHED

UNIVERSALITY = {
    "backbone": pl.String,
    "variant": pl.String,
    "model": pl.String,
    "seeds": pl.Int64,
    "periods": pl.Int64,
    "mae": pl.Float64,  # published average, mean over periods and seeds
    "mae_std": pl.Float64,  # over the seeds
    "skill": pl.Float64,  # percent below the weekly naive forecast
    "relative": pl.Float64,  # percent of the bare backbone's error, below zero is better
    "relative_low": pl.Float64,
    "relative_high": pl.Float64,
    "mark": pl.String,  # better, worse or level, by both tests after Holm over the variants
    "control_relative": pl.Float64,  # the same against the control, of the variant that has one
    "control_relative_low": pl.Float64,
    "control_relative_high": pl.Float64,
    "control_mark": pl.String,
    "later_seconds": pl.Float64,  # of a later period's training
    "trainable": pl.Int64,
    "parameters": pl.Int64,
}
AGAINST = ("relative", "relative_low", "relative_high", "mark")


def universality_table(
    models: Mapping[tuple[str, str], str],
    rows: Sequence[Mapping[str, Any]],
    losses: pl.DataFrame,
    *,
    bare: str,
    control: tuple[str, str],
    day_steps: int,
    seed: int = 0,
) -> pl.DataFrame:
    """One row per backbone and variant that has scores, backbones by their bare error: columns `UNIVERSALITY`.

    Args:
        models: (backbone, variant) -> name of the model.
        rows: of a leaderboard with costs, one a model.
        losses: of all models right after learning each period.
        bare: the variant that the others are compared with.
        control: a variant, and that which it is compared with too.
        day_steps: steps of a day.

    Raises:
        InputError: rows may not be compared.
    """
    found = {row["model"]: row for row in rows}
    scored = {place: name for place, name in models.items() if name in found}
    others = {variant: bare for _, variant in scored if variant != bare}
    marks: dict[str, dict[str, Any]] = {}
    for prefix, references in (("", others), ("control_", dict([control]))):
        pairs = [
            (name, scored[backbone, references[variant]])
            for (backbone, variant), name in scored.items()
            if (backbone, references.get(variant)) in scored
        ]
        if pairs:
            compared = compare(losses, reference=pairs, horizons=(PUBLISHED,), day_steps=day_steps, seed=seed)
            for row in compared.to_dicts():
                marks.setdefault(row["model"], {}).update({f"{prefix}{name}": row[name] for name in AGAINST})
    order = {backbone: found[name]["mae"] for (backbone, variant), name in scored.items() if variant == bare}
    table = []
    for backbone, variant in sorted(scored, key=lambda place: order.get(place[0], math.inf)):
        name = scored[backbone, variant]
        row = {**found[name], **marks.get(name, {}), "backbone": backbone, "variant": variant}
        table.append({column: row.get(column) for column in UNIVERSALITY})
    return pl.DataFrame(table, schema=UNIVERSALITY, strict=False)
