"""The period matrix holds what the rows say; forgetting and backward transfer are the cited formulas, for errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import SCHEMA

Tidy = Callable[..., pl.DataFrame]
KEYS = ("2011", "2012", "2013", "2014")
HAND = {
    ("2011", "2011"): 5.0,
    ("2012", "2011"): 4.0,
    ("2012", "2012"): 6.0,
    ("2013", "2011"): 7.0,
    ("2013", "2012"): 5.5,
    ("2013", "2013"): 3.0,
}


def test_rows_are_models_and_columns_are_periods(tidy: Tidy) -> None:
    matrix = PeriodMatrix.of(tidy("eac", HAND).sample(fraction=1, shuffle=True, seed=0))
    assert matrix.periods == ("2011", "2012", "2013")
    np.testing.assert_array_equal(matrix.errors, [[5, np.nan, np.nan], [4, 6, np.nan], [7, 5.5, 3]])


def test_measures_worked_out_by_hand(tidy: Tidy) -> None:
    matrix = PeriodMatrix.of(tidy("eac", HAND))
    assert matrix.backward_transfer == pytest.approx(((7 - 5) + (5.5 - 6)) / 2)
    assert matrix.forgetting == pytest.approx(((7 - 4) + (5.5 - 6)) / 2)


@given(st.lists(st.floats(0.1, 100), min_size=10, max_size=10), st.integers(2, 4))
def test_measures_are_the_formulas(tidy: Tidy, values: list[float], count: int) -> None:
    r = np.zeros((4, 4))
    r[np.tril_indices(4)] = values
    pairs = {(KEYS[i], KEYS[j]): float(r[i, j]) for i in range(count) for j in range(i + 1)}
    matrix = PeriodMatrix.of(tidy("eac", pairs))
    last = count - 1
    chaudhry = [r[last, j] - min(r[i, j] for i in range(j, last)) for j in range(last)]
    lopez_paz = [r[last, j] - r[j, j] for j in range(last)]
    assert matrix.forgetting == pytest.approx(np.mean(chaudhry))
    assert matrix.backward_transfer == pytest.approx(np.mean(lopez_paz))
    assert matrix.forgetting >= matrix.backward_transfer - 1e-9


@pytest.mark.parametrize("unknown", ["null", "absent"])
@pytest.mark.parametrize(
    ("entry", "forgetting", "transfer"),
    [
        (("2011", "2011"), (7 - 4 + 5.5 - 6) / 2, 5.5 - 6),
        (("2012", "2011"), (7 - 5 + 5.5 - 6) / 2, (7 - 5 + 5.5 - 6) / 2),
        (("2012", "2012"), 7 - 4, 7 - 5),
        (("2013", "2011"), 5.5 - 6, 5.5 - 6),
        (("2013", "2013"), (7 - 4 + 5.5 - 6) / 2, (7 - 5 + 5.5 - 6) / 2),
    ],
)
def test_an_unknown_entry_takes_only_what_needs_it(
    tidy: Tidy, unknown: str, entry: tuple[str, str], forgetting: float, transfer: float
) -> None:
    known: dict[tuple[str, str], float | None] = {pair: error for pair, error in HAND.items() if pair != entry}
    matrix = PeriodMatrix.of(tidy("eac", known | ({entry: None} if unknown == "null" else {})))
    assert matrix.forgetting == pytest.approx(forgetting)
    assert matrix.backward_transfer == pytest.approx(transfer)


def test_one_period_says_nothing_of_the_past(tidy: Tidy) -> None:
    matrix = PeriodMatrix.of(tidy("eac", {("2011", "2011"): 5.0}))
    np.testing.assert_array_equal(matrix.errors, [[5]])
    assert matrix.forgetting is None and matrix.backward_transfer is None


def test_neither_do_scores_on_the_own_period_alone_or_none_at_all(tidy: Tidy) -> None:
    naive = PeriodMatrix.of(tidy("naive_last", {(key, key): 5.0 for key in KEYS}))
    nothing = PeriodMatrix.of(pl.DataFrame(schema=SCHEMA))
    assert nothing.periods == ()
    for matrix in (naive, nothing):
        assert matrix.forgetting is None and matrix.backward_transfer is None


def test_metric_horizon_and_cohort_choose_the_rows(tidy: Tidy) -> None:
    chosen = {"metric": "rmse", "horizon": "at:3", "cohort": "2011"}
    others = [{**chosen, name: other} for name, other in (("metric", "mae"), ("horizon", "at:1"), ("cohort", "all"))]
    rows = pl.concat(
        [tidy("eac", HAND, **chosen), *(tidy("eac", dict.fromkeys(HAND, 1.0), **other) for other in others)]
    )
    assert PeriodMatrix.of(rows, **chosen).errors[2, 0] == 7
    assert PeriodMatrix.of(rows, **others[0]).errors[2, 0] == 1


def test_what_the_model_before_a_period_makes_of_it_gives_forward_transfer_and_plasticity(tidy: Tidy) -> None:
    ahead = {("2011", "2012"): 9.0, ("2012", "2013"): 4.0}
    matrix = PeriodMatrix.of(tidy("eac", HAND | ahead))
    assert matrix.plasticity == pytest.approx(((9 - 6) + (4 - 3)) / 2)
    assert matrix.forward_transfer({"2012": 7.0, "2013": 8.0}) == pytest.approx(((9 - 7) + (4 - 8)) / 2)
    assert matrix.forward_transfer({"2013": 8.0}) == pytest.approx(4 - 8)
    without = PeriodMatrix.of(tidy("eac", HAND))
    assert (matrix.forgetting, matrix.backward_transfer) == (without.forgetting, without.backward_transfer)
    assert without.plasticity is None and without.forward_transfer({"2012": 7.0}) is None
