"""Losses: seeds enter with their mean, and what was scored differently is never compared."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.evaluation.losses import LOSSES, incomparable, mean_over_seeds, require_comparable

HOUR = 3600


def losses(model: str = "eac", *, seed: int = 1, error: float = 2.0, **facts: Any) -> pl.DataFrame:
    """Two periods of three windows of two steps, 4 cells of which 3 are not zero."""
    rows = [
        {
            "stream": "small",
            "model": model,
            "protocol": "sound",
            "seed": seed,
            "period": period,
            "issued_at": begin + window * HOUR,
            "horizon": step,
            "absolute": error * 4 * step,
            "square": error**2 * 4,
            "cells": 4,
            "absolute_nonzero": error * 3 * step,
            "cells_nonzero": 3,
            "data": f"truth-{period}",
            "split": "0.6/0.2/0.2",
            "mask": f"cells-{period}",
            **facts,
        }
        for period, begin in (("2011", 0), ("2012", 1000 * HOUR))
        for window in range(3)
        for step in (1, 2)
    ]
    return pl.DataFrame(rows, schema=LOSSES)


def test_seeds_enter_with_their_mean() -> None:
    rows = pl.concat([losses(seed=1, error=2), losses(seed=2, error=4), losses("retrain", error=7)])
    means = mean_over_seeds(rows.sample(fraction=1, shuffle=True, seed=0))
    assert means.columns == [name for name in LOSSES if name != "seed"]
    eac = means.filter(pl.col("model") == "eac")
    assert eac["absolute"].to_list() == [12.0, 24.0] * 6
    assert eac["square"].to_list() == [(4 + 16) / 2 * 4] * 12
    assert eac["absolute_nonzero"].to_list() == [9.0, 18.0] * 6
    assert eac.select("cells", "cells_nonzero").unique().rows() == [(4, 3)]
    assert means.filter(pl.col("model") == "retrain")["absolute"].to_list() == [28.0, 56.0] * 6


def test_rows_come_sorted_by_period_issue_time_and_step() -> None:
    means = mean_over_seeds(losses().sample(fraction=1, shuffle=True, seed=0))
    assert means.equals(mean_over_seeds(losses()))
    assert means.select("period", "issued_at", "horizon").rows() == sorted(
        means.select("period", "issued_at", "horizon").rows()
    )


def test_no_rows_have_no_means() -> None:
    assert mean_over_seeds(pl.DataFrame(schema=LOSSES)).is_empty()


def test_models_scored_alike_may_be_compared() -> None:
    require_comparable(losses(), losses("retrain", error=9, seed=5))
    assert incomparable(mean_over_seeds(losses()), mean_over_seeds(losses("retrain"))) is None


@pytest.mark.parametrize(
    ("field", "other"), [("protocol", "paper"), ("data", "other"), ("split", "0.2/0.2/0.6"), ("mask", "fewer")]
)
def test_a_fact_that_differs_is_named_with_both_values(field: str, other: str) -> None:
    own = losses()[field][0]
    with pytest.raises(InputError, match=rf"'eac'.*'retrain'.*{field} of period 2011 is '{own}' and '{other}'"):
        require_comparable(losses(), losses("retrain", **{field: other}))


def test_a_fact_that_differs_in_one_period_alone_is_found() -> None:
    changed = losses("retrain").with_columns(
        pl.when(pl.col("period") == "2012").then(pl.lit("revised")).otherwise("data").alias("data")
    )
    with pytest.raises(InputError, match="data of period 2012 is 'truth-2012' and"):
        require_comparable(losses(), changed.with_columns(pl.col("data").replace("data", "truth-2011")))


def test_a_frame_that_mixes_facts_is_comparable_with_nothing() -> None:
    mixed = losses().with_columns(
        pl.when(pl.col("horizon") == 1).then(pl.lit("sound")).otherwise(pl.lit("paper")).alias("protocol")
    )
    with pytest.raises(InputError, match="protocol of period 2011 is 'paper', 'sound' and 'paper', 'sound'"):
        require_comparable(mixed, mixed)


@pytest.mark.parametrize("swapped", [False, True])
def test_missing_issue_times_are_named(swapped: bool) -> None:
    short = losses("retrain").filter(pl.col("issued_at") != 1001 * HOUR)
    pair = (short, losses()) if swapped else (losses(), short)
    counts = "2 and 3" if swapped else "3 and 2"
    found = f"issued_at in period 2012 has {counts} values, and 'retrain' .seed 1. lacks 1970-02-11T17:00Z at step 1"
    with pytest.raises(InputError, match=found):
        require_comparable(*pair)


def test_a_missing_period_is_missing_issue_times() -> None:
    with pytest.raises(InputError, match="issued_at in period 2012 has 3 and 0 values"):
        require_comparable(losses(), losses("retrain").filter(pl.col("period") == "2011"))


@pytest.mark.parametrize("field", ["cells", "cells_nonzero"])
def test_counts_of_cells_that_contradict_the_mask_are_refused(field: str) -> None:
    with pytest.raises(InputError, match=rf" {field} of .* is [34] and 2 although the mask is the same"):
        require_comparable(losses(), losses("retrain", **{field: 2}))


def test_seeds_scored_differently_have_no_mean() -> None:
    with pytest.raises(InputError, match=r"'eac' .seed 1. and 'eac' .seed 2. cannot be compared: mask"):
        mean_over_seeds(pl.concat([losses(), losses(seed=2, mask="other")]))


@pytest.mark.parametrize("name", ["absolute", "square", "absolute_nonzero"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_sum_that_is_no_loss_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"model 'eac' in period 2011 hold .* as {name} in 12 rows"):
        mean_over_seeds(losses(**{name: value}))


@pytest.mark.parametrize("name", ["absolute", "cells", "data"])
def test_an_unknown_value_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"column {name} .* is empty in 12 rows"):
        mean_over_seeds(losses(**{name: None}))


def test_a_row_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'eac', seed 1, stand twice for 1970-01-01T00:00Z at step 1 of period 2011"):
        mean_over_seeds(pl.concat([losses(), losses()]))


def test_a_missing_column_and_a_second_stream_are_refused() -> None:
    with pytest.raises(InputError, match="lacks the column 'mask'"):
        mean_over_seeds(losses().drop("mask"))
    with pytest.raises(InputError, match="2 streams, other, small"):
        mean_over_seeds(pl.concat([losses(), losses(stream="other")]))
