"""Several seeds of a model are one row to the reader: their mean, and how far they lie apart."""

from __future__ import annotations

import polars as pl
import pytest

from st_pipeline.evaluation.leaderboard import summary
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import SCHEMA, over_seeds


def rows(
    model: str, values: dict[tuple[int, str, str], float | None], horizon: str = "published_average"
) -> pl.DataFrame:
    """From (seed, trained through, period) -> mean absolute error."""
    names = {"stream": "net", "model": model, "protocol": "sound", "cohort": "all", "metric": "mae", "horizon": horizon}
    found = [
        {**names, "seed": seed, "trained_through": through, "period": period, "value": value}
        for (seed, through, period), value in values.items()
    ]
    return pl.DataFrame(found, schema=SCHEMA)


TWO = {(1, "a", "a"): 10.0, (1, "b", "a"): 12.0, (1, "b", "b"): 20.0}
TWO |= {(2, "a", "a"): 14.0, (2, "b", "a"): 18.0, (2, "b", "b"): 24.0}


def test_the_mean_keeps_rows_apart_and_in_order() -> None:
    found = over_seeds(rows("m", TWO))
    assert found.columns == [name for name in SCHEMA if name != "seed"]
    assert found.select("trained_through", "period", "value").rows() == [
        ("a", "a", 12.0),
        ("b", "a", 15.0),
        ("b", "b", 22.0),
    ]


def test_of_one_seed_nothing_changes() -> None:
    one = rows("m", {key: value for key, value in TWO.items() if key[0] == 1})
    assert over_seeds(one).equals(one.drop("seed"))


def test_the_matrix_holds_means() -> None:
    matrix = PeriodMatrix.of(rows("m", TWO))
    assert matrix.errors[[0, 1, 1], [0, 0, 1]].tolist() == [12.0, 15.0, 22.0]
    assert matrix.forgetting == pytest.approx(3.0)


def test_the_summary_counts_seeds_and_says_how_far_they_lie_apart() -> None:
    weekly = {(0, "a", "a"): 20.0, (0, "b", "b"): 30.0}
    table = summary(pl.concat([rows("m", TWO), rows("naive_weekly", weekly)]), horizon=3)
    first, naive = table.iter_rows(named=True)
    assert (first["model"], first["seeds"], first["periods"]) == ("m", 2, 2)
    assert first["mae"] == pytest.approx((12 + 22) / 2)
    assert first["mae_std"] == pytest.approx(abs(19 - 15) / 2**0.5)  # 15 and 19 are the means of the two seeds
    assert first["skill"] == pytest.approx(100 * (1 - 17 / 25))
    assert naive["seeds"] == 1 and naive["mae_std"] is None


def test_a_seed_without_a_score_leaves_the_others() -> None:
    found = over_seeds(rows("m", {(1, "a", "a"): None, (2, "a", "a"): 3.0, (1, "b", "b"): None}))
    assert found["value"].to_list() == [3.0, None]
