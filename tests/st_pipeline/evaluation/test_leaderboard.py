"""The leaderboard keeps every row, ranks models by the published average and measures them by the weekly naive one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.evaluation.leaderboard import collect, summary
from st_pipeline.evaluation.rows import SCHEMA
from st_pipeline.evaluation.scoring import evaluate_naive
from st_pipeline.model_config import NAIVE_MODELS

Tidy = Callable[..., pl.DataFrame]
KEYS = ("2011", "2012", "2013")
HORIZON = 4


def own(*errors: float | None) -> dict[tuple[str, str], float | None]:
    """Errors right after learning each period."""
    return {(key, key): error for key, error in zip(KEYS, errors, strict=False)}


def row(table: pl.DataFrame, model: str) -> dict[str, Any]:
    return table.row(by_predicate=pl.col("model") == model, named=True)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.none() | st.floats(0, 100), min_size=1))
def test_the_best_model_comes_first_and_the_unknown_last(tidy: Tidy, errors: dict[str, float | None]) -> None:
    table = summary(collect(tidy(name, own(error)) for name, error in errors.items()), HORIZON)
    known = sorted((error, name) for name, error in errors.items() if error is not None)
    unknown = sorted(name for name, error in errors.items() if error is None)
    assert table["model"].to_list() == [*(name for _, name in known), *unknown]
    assert table["mae"].to_list() == [*(error for error, _ in known), *(None for _ in unknown)]


def test_the_naive_forecasts_are_always_there(make_stream, make_history, tidy: Tidy) -> None:
    stream = make_stream()
    (key, data), *_ = make_history(stream).items()
    naive = evaluate_naive(stream, data).scores
    beside = [tidy("bad", {(key, key): None}), tidy("good", {(key, key): 1e-9})]
    for frames in ([naive], [*beside, naive]):
        table = summary(collect(frames), HORIZON)
        assert set(NAIVE_MODELS) <= set(table["model"])
        for name in NAIVE_MODELS:
            found = row(table, name)
            assert all(found[column] is not None for column in ("mae", "mae_last", "rmse", "wape", "r2", "skill"))
        assert row(table, "naive_weekly")["skill"] == 0


def test_skill_is_the_share_of_the_weekly_naive_error_that_is_saved(tidy: Tidy) -> None:
    rows = [tidy("naive_weekly", own(10.0, 30.0)), tidy("good", own(5.0, 5.0)), tidy("bad", own(20.0, 40.0))]
    table = summary(collect(rows), HORIZON)
    assert row(table, "good")["skill"] == pytest.approx(100 * (1 - 10 / 40))
    assert row(table, "bad")["skill"] == pytest.approx(-50)


def test_skill_compares_the_same_periods(tidy: Tidy) -> None:
    rows = [tidy("naive_weekly", own(10.0, None, 1000.0)), tidy("short", own(5.0, 7.0)), tidy("late", own(None, 7.0))]
    table = summary(collect(rows), HORIZON)
    assert row(table, "short")["skill"] == pytest.approx(50)
    assert row(table, "short")["mae"] == 6 and row(table, "short")["periods"] == 2
    assert row(table, "late")["skill"] is None
    assert row(summary(collect(rows[1:]), HORIZON), "short")["skill"] is None


def test_headline_errors_are_means_right_after_learning_each_period(tidy: Tidy) -> None:
    later = {("2012", "2011"): 99.0}
    frames = [
        tidy("eac", own(2.0, 4.0) | later),
        tidy("eac", own(3.0, 5.0) | later, horizon=f"at:{HORIZON}"),
        tidy("eac", own(7.0, 7.0) | later, horizon="at:1"),
        tidy("eac", own(1.0, 1.5) | later, cohort="some"),
        *(
            tidy("eac", own(4.0, 8.0) | later, metric=name, horizon=f"upto:{HORIZON}")
            for name in ("rmse", "wape", "r2")
        ),
    ]
    found = row(summary(collect(frames), HORIZON), "eac")
    expected = {"protocol": "sound", "periods": 2, "mae": 3.0, "mae_last": 4.0, "rmse": 6.0, "wape": 6.0, "r2": 6.0}
    assert {name: found[name] for name in expected} == expected
    assert found["backward_transfer"] == 97


def test_a_model_is_listed_with_its_protocol(tidy: Tidy) -> None:
    frames = [tidy("eac", own(2.0)), tidy("eac_paper", own(1.0), protocol="paper")]
    table = summary(collect(frames), HORIZON)
    assert table.select("model", "protocol").rows() == [("eac_paper", "paper"), ("eac", "sound")]


@given(st.permutations(range(6)))
def test_the_order_of_arrival_does_not_matter(tidy: Tidy, order: list[int]) -> None:
    frames = [
        tidy(model, {(through, period): float(len(model) + number)})
        for model in ("eac", "online")
        for number, (through, period) in enumerate((("2011", "2011"), ("2012", "2011"), ("2012", "2012")))
    ]
    rows = collect(frames[place] for place in order)
    assert rows.equals(collect(frames))
    assert len(rows) == len(frames)
    assert summary(rows, HORIZON).equals(summary(collect(frames), HORIZON))


def test_without_scores_the_tables_are_empty_and_have_their_columns() -> None:
    rows = collect([])
    assert rows.schema == pl.Schema(SCHEMA) and not len(rows)
    assert collect([rows, rows]).equals(rows)
    table = summary(rows, HORIZON)
    assert not len(table)
    assert {"model", "periods", "mae", "skill", "forgetting"} <= set(table.columns)
