"""The ledger has a row for what was trained, adds up, and takes the errors that the leaderboard takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.evaluation.cost_ledger import COSTS, LEDGER, costs, costs_by_model, ledger
from st_pipeline.evaluation.rows import SCHEMA

Tidy = Callable[..., pl.DataFrame]
Document = Callable[..., dict[str, Any]]
KEYS = ("2011", "2012", "2013")


def own(*errors: float | None) -> dict[tuple[str, str], float | None]:
    """Errors right after learning each period."""
    return {(key, key): error for key, error in zip(KEYS, errors, strict=False)}


def test_costs_are_one_row_per_model_and_period_and_naive_forecasts_cost_nothing(cost_document: Document) -> None:
    table = costs({"naive": {"2011": {}}, "eac": {"2012": cost_document(), "2011": cost_document()}})
    assert table.select("model", "period").rows() == [("eac", "2011"), ("eac", "2012")]
    assert table["peak_mib"].to_list() == [3, 3]
    assert table.schema == COSTS
    assert not len(costs({"naive": {"2011": {}}}))


def test_a_model_is_summed_up_and_its_first_period_kept_apart(cost_document: Document) -> None:
    periods = {
        key: cost_document(taken, trainable=size) for key, taken, size in zip(KEYS, (9, 2, 4), (7, 1, 2), strict=True)
    }
    (row,) = costs_by_model(costs({"eac": periods, "naive": {}})).to_dicts()
    assert (row["model"], row["seconds"], row["later_seconds"], row["trainable"]) == ("eac", 15, 3, 2)
    (row,) = costs_by_model(costs({"eac": {"2011": cost_document()}})).to_dicts()
    assert row["later_seconds"] is None


def test_seconds_add_up_and_errors_are_averaged_so_far(tidy: Tidy, cost_document: Document) -> None:
    documents = {
        "eac": {key: cost_document(taken) for key, taken in zip(KEYS, (5.0, 1.0, 2.0), strict=True)},
        "online": {"2011": cost_document(7.0)},
    }
    later = {("2012", "2011"): 99.0, ("2011", "2012"): 88.0}
    scores = pl.concat(
        [
            tidy("eac", own(4.0, 6.0, 2.0) | later),
            tidy("eac", own(1.0, 1.0, 1.0), horizon="at:1"),
            tidy("eac", own(1.0, 1.0, 1.0), metric="rmse"),
            tidy("eac", own(4.0, 5.0, 5.0), cohort="2011"),
            tidy("eac", {("2012", "2012"): 8.0, ("2013", "2013"): 7.0}, cohort="2012"),
            tidy("online", own(3.0)),
        ]
    )
    table = ledger(documents, scores)
    assert table.schema == LEDGER
    columns = ["model", "period", "seconds_so_far", "mae", "mae_new", "mae_so_far"]
    assert table.select(columns).rows() == [
        ("eac", "2011", 5.0, 4.0, 4.0, 4.0),
        ("eac", "2012", 6.0, 6.0, 8.0, 5.0),
        ("eac", "2013", 8.0, 2.0, None, 4.0),
        ("online", "2011", 7.0, 3.0, None, 3.0),
    ]


def test_what_was_not_scored_is_unknown(tidy: Tidy, cost_document: Document) -> None:
    documents = {"eac": dict.fromkeys(KEYS, cost_document(1.0)), "online": dict.fromkeys(KEYS, cost_document(1.0))}
    table = ledger(documents, tidy("eac", own(None, 6.0, None)))
    eac, online = (table.filter(pl.col("model") == name) for name in ("eac", "online"))
    assert eac["mae_so_far"].to_list() == [None, 6.0, 6.0]
    assert online["mae_so_far"].to_list() == [None] * 3 and online["seconds_so_far"].to_list() == [1.0, 2.0, 3.0]


def test_several_seeds_enter_with_their_mean(tidy: Tidy, cost_document: Document) -> None:
    one = tidy("eac", own(4.0))
    both = pl.concat([one, one.with_columns(seed=pl.lit(2, pl.Int64), value=pl.col("value") + 2)])
    assert ledger({"eac": {"2011": cost_document()}}, both)["mae"].to_list() == [5.0]


@pytest.mark.parametrize("documents", [{}, {"naive": {"2011": {}}}])
def test_without_trained_models_the_ledger_is_empty_and_has_its_columns(documents: Any) -> None:
    table = ledger(documents, pl.DataFrame(schema=SCHEMA))
    assert not len(table) and table.schema == LEDGER
