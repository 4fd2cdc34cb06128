"""Losses per issue time and step, what a comparison of forecasters is made from, and when two may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from st_pipeline.data.protocols import Part
from st_pipeline.errors import InputError
from st_pipeline.storage import digest

LOSSES = {
    "stream": pl.String,
    "model": pl.String,
    "protocol": pl.String,
    "seed": pl.Int64,
    "period": pl.String,  # tested, and trained through
    "issued_at": pl.Int64,  # UTC seconds of the last input step
    "horizon": pl.Int64,  # forecast step, 1..H
    "absolute": pl.Float64,  # sum over the scored sensors of |error|
    "square": pl.Float64,
    "cells": pl.Int64,  # scored sensors
    "absolute_nonzero": pl.Float64,  # the same over cells whose truth is not zero
    "cells_nonzero": pl.Int64,
    "data": pl.String,  # digest of the truth
    "split": pl.String,
    "mask": pl.String,  # digest of the scored cells
}
SUMS = ("absolute", "square", "absolute_nonzero")
COUNTS = ("cells", "cells_nonzero")
FACTS = ("stream", "protocol", "data", "split", "mask")  # the same in rows that may be compared
PLACE = ["period", "issued_at", "horizon"]


def loss_rows(sums: Tensor, part: Part, times: NDArray[np.int64], names: Mapping[str, Any], split: str) -> pl.DataFrame:
    """Rows of all windows of a test part, with `trained_through` behind the columns of `LOSSES`.

    Args:
        sums: (5, windows, H), see `metrics.loss_sums`.
        times: (L,) of the period's steps, UTC seconds.
        names: stream, model, protocol, seed, trained_through, period.
    """
    absolute, square, cells, absolute_nonzero, cells_nonzero = sums.cpu().numpy()
    windows, horizon = absolute.shape
    last_inputs = part.offset + part.starts.cpu().numpy() + part.windows.window - 1
    found = pl.DataFrame(
        {
            "issued_at": np.repeat(times[last_inputs], horizon),
            "horizon": np.tile(np.arange(1, horizon + 1), windows),
            "absolute": absolute.reshape(-1),
            "square": square.reshape(-1),
            "cells": cells.reshape(-1).astype(np.int64),
            "absolute_nonzero": absolute_nonzero.reshape(-1),
            "cells_nonzero": cells_nonzero.reshape(-1).astype(np.int64),
        }
    )
    constant = {**names, **_facts(part), "split": split}
    schema = pl.Schema({**LOSSES, "trained_through": pl.String})
    named = found.with_columns(pl.lit(value).alias(name) for name, value in constant.items())
    return named.select(list(schema)).cast(schema)


def _facts(part: Part) -> dict[str, str]:
    """Digests of the truth and of the scored cells that the windows of a part forecast."""
    used = slice(int(part.starts[0]) + part.windows.window, int(part.starts[-1]) + part.windows.span)
    scored = part.scored[used].cpu()
    truth = torch.where(scored, part.truth[used].cpu(), 0.0)
    return {"data": digest(truth.numpy().tobytes()), "mask": digest(scored.numpy().tobytes())}


def newest(losses: pl.DataFrame) -> pl.DataFrame:
    """Rows of every model right after learning the period that it is tested on: columns `LOSSES`."""
    return losses.filter(pl.col("trained_through") == pl.col("period")).select(list(LOSSES))


def mean_over_seeds(losses: pl.DataFrame) -> pl.DataFrame:
    """One row, the mean loss sums, per model and place (period, issue time, step), sorted; `seed` is gone.

    Raises:
        InputError: a column or value is missing, a sum is not finite, a row stands twice, or the seeds of one model
            were scored on different cells.
    """
    _require_rows(losses)
    kept = [name for name in LOSSES if name != "seed"]
    found = [pl.DataFrame(schema=LOSSES).select(kept)]
    for model in losses["model"].unique().sort():
        first, *others = losses.filter(pl.col("model") == model).partition_by("seed", maintain_order=True)
        for other in others:
            require_comparable(first, other)
        if others:
            means = pl.concat([first, *others]).group_by(PLACE).agg(pl.col(SUMS).mean())
            first = first.drop(SUMS).join(means, on=PLACE)
        found.append(first.select(kept).sort(PLACE))
    return pl.concat(found)


def require_comparable(losses_a: pl.DataFrame, losses_b: pl.DataFrame) -> None:
    """Refuse to compare two models' rows unless protocol, data, split, mask and issue times are the same.

    Raises:
        InputError: names the first field that differs, the period and both values.
    """
    if sentence := incomparable(losses_a, losses_b):
        raise InputError(sentence)


def incomparable(losses_a: pl.DataFrame, losses_b: pl.DataFrame) -> str | None:
    """The sentence that says what keeps two models' rows from being compared; None where nothing does."""
    if _alike(losses_a, losses_b):
        return None
    names = f"{_name(losses_a)} and {_name(losses_b)} cannot be compared"
    for field in FACTS:
        if found := _differing_fact(losses_a, losses_b, field):
            return f"{names}: {field} {found}; evaluate both in the same way and on the same readings."
    for one, two in ((losses_a, losses_b), (losses_b, losses_a)):
        missing = one.select(PLACE).join(two.select(PLACE), on=PLACE, how="anti").sort(PLACE)
        if len(missing):
            period, issued_at, step = missing.row(0)
            counts = [
                frame.filter(pl.col("period") == period)["issued_at"].n_unique() for frame in (losses_a, losses_b)
            ]
            return (
                f"{names}: issued_at in period {period} has {counts[0]} and {counts[1]} values, and {_name(two)} "
                f"lacks {_utc(issued_at)} at step {step}; evaluate both on the same windows."
            )
    for field in COUNTS:
        both = losses_a.join(losses_b, on=PLACE, suffix="_b").filter(pl.col(field) != pl.col(f"{field}_b"))
        if len(both):
            period, issued_at, step, *counts = both.sort(PLACE).select(*PLACE, field, f"{field}_b").row(0)
            return (
                f"{names}: {field} of {_utc(issued_at)} at step {step} in period {period} is {counts[0]} and "
                f"{counts[1]} although the mask is the same; evaluate both anew."
            )
    return None


def _alike(losses_a: pl.DataFrame, losses_b: pl.DataFrame) -> bool:
    """Do both hold the same places, facts and counts, and one value of each fact in a period?"""
    one, two = (frame.select(*PLACE, *FACTS, *COUNTS).sort(PLACE) for frame in (losses_a, losses_b))
    return one.equals(two) and one.select("period", *FACTS).n_unique() == one["period"].n_unique()


def _differing_fact(losses_a: pl.DataFrame, losses_b: pl.DataFrame, field: str) -> str | None:
    """How a fact differs in the first period where it does; more than one value in a period differs from itself."""
    found = [
        dict(frame.group_by("period").agg(pl.col(field).unique().sort()).iter_rows()) for frame in (losses_a, losses_b)
    ]
    for period in sorted(found[0].keys() & found[1].keys()):
        one, two = found[0][period], found[1][period]
        if one != two or len(one) > 1:
            return f"of period {period} is {', '.join(map(repr, one))} and {', '.join(map(repr, two))}"
    return None


def _require_rows(losses: pl.DataFrame) -> None:
    """All columns filled, one stream, finite sums, one row per model, seed and place."""
    if missing := [name for name in LOSSES if name not in losses.columns]:
        raise InputError(f"A frame of losses lacks the column {missing[0]!r}; expected {', '.join(LOSSES)}.")
    if len(streams := losses["stream"].unique().sort()) > 1:
        raise InputError(f"Losses are of {len(streams)} streams, {', '.join(streams)}; compare one stream at a time.")
    for name in LOSSES:
        if unknown := losses[name].null_count():
            raise InputError(
                f"The column {name} of a frame of losses is empty in {unknown} rows; expected a value in all."
            )
    for name in (*SUMS, *COUNTS):
        bad = losses.filter(~pl.col(name).cast(pl.Float64).is_finite() | (pl.col(name) < 0))
        if len(bad):
            row = bad.row(0, named=True)
            raise InputError(
                f"Losses of model {row['model']!r} in period {row['period']} hold {row[name]} as {name} in {len(bad)} "
                "rows; expected finite sums that are not negative: train the model anew or leave it out."
            )
    key = ["stream", "model", "seed", *PLACE]
    if len(twice := losses.filter(losses.select(key).is_duplicated())):
        row = twice.row(0, named=True)
        raise InputError(
            f"Losses of model {row['model']!r}, seed {row['seed']}, stand twice for {_utc(row['issued_at'])} at step "
            f"{row['horizon']} of period {row['period']}; pass each evaluation once."
        )


def _name(losses: pl.DataFrame) -> str:
    """The model, with its seed where the rows have just one."""
    names = ", ".join(repr(name) for name in losses["model"].unique().sort())
    seeds = losses["seed"].unique() if "seed" in losses.columns else pl.Series([])
    return f"{names} (seed {seeds[0]})" if len(seeds) == 1 else names


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
