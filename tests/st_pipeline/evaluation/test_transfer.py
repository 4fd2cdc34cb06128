"""Transfer is that of the period matrix; its intervals lie around it, and planted forgetting is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import PUBLISHED, SCHEMA
from st_pipeline.evaluation.transfer import MEASURES, TRANSFER, horizon_labels, transfer_table

Make = Callable[..., pl.DataFrame]
HAND = {
    ("2011", "2011"): 5.0,
    ("2011", "2012"): 9.0,
    ("2012", "2011"): 4.0,
    ("2012", "2012"): 6.0,
    ("2012", "2013"): 4.0,
    ("2013", "2011"): 7.0,
    ("2013", "2012"): 5.5,
    ("2013", "2013"): 3.0,
}
WEEKLY = {("2011", "2011"): 8.0, ("2012", "2012"): 7.0, ("2013", "2013"): 6.0}
BY_HAND = {"forgetting": 1.25, "backward_transfer": 0.75, "forward_transfer": 0.0, "plasticity": 2.0}
OPTIONS: dict[str, Any] = {"horizons": ["at:2", PUBLISHED], "repeats": 200}


def values(table: pl.DataFrame, **chosen: str) -> dict[str, float]:
    return dict(table.filter(**chosen).select("measure", "value").iter_rows())


def bounds(table: pl.DataFrame, measure: str, horizon: str = PUBLISHED) -> tuple[Any, ...]:
    return table.filter(measure=measure, horizon=horizon, cohort="all").select("low", "value", "high").row(0)


@pytest.mark.parametrize(
    ("horizon", "labels"),
    [(12, ("at:3", "at:6", "at:12")), (4, ("at:3", "at:4")), (3, ("at:3",)), (1, ("at:1",))],
)
def test_horizons_are_those_of_the_papers_as_far_as_forecasts_reach(horizon: int, labels: tuple[str, ...]) -> None:
    assert horizon_labels(horizon) == (*labels, PUBLISHED)


def test_measures_worked_out_by_hand(tidy: Make) -> None:
    scores = pl.concat([tidy("eac", HAND), tidy("naive_weekly", WEEKLY)])
    table = transfer_table(scores, horizons=[PUBLISHED])
    assert table.schema == TRANSFER
    assert values(table, model="eac") == pytest.approx(BY_HAND)
    assert table["low"].null_count() == len(table) == len(MEASURES), "naive forecasts learn nothing"


def test_each_cohort_and_horizon_is_measured_by_itself(tidy: Make) -> None:
    born = {key: error + 1 for key, error in HAND.items() if "2011" not in key}
    base = {key: error - 1 for key, error in WEEKLY.items()}
    scores = pl.concat(
        [
            tidy("eac", HAND),
            tidy("eac", {key: 2 * error for key, error in HAND.items()}, horizon="at:3"),
            tidy("eac", born, cohort="2012"),
            tidy("naive_weekly", WEEKLY),
            tidy("naive_weekly", base, cohort="2012"),
        ]
    )
    table = transfer_table(scores, horizons=["at:3", PUBLISHED])
    doubled = {name: 2 * value for name, value in BY_HAND.items() if name != "forward_transfer"}
    assert values(table, horizon="at:3") == pytest.approx(doubled), "the baseline has no such horizon"
    assert values(table, horizon=PUBLISHED, cohort="all") == pytest.approx(BY_HAND)
    expected = {"forgetting": -0.5, "backward_transfer": -0.5, "forward_transfer": 5 - 5, "plasticity": 1.0}
    assert values(table, horizon=PUBLISHED, cohort="2012") == pytest.approx(expected)


def test_a_baseline_of_another_protocol_is_none(tidy: Make) -> None:
    scores = pl.concat([tidy("eac_paper", HAND, protocol="paper"), tidy("naive_weekly", WEEKLY)])
    assert set(values(transfer_table(scores, horizons=[PUBLISHED]))) == set(BY_HAND) - {"forward_transfer"}


def test_one_period_and_naive_forecasts_alone_have_nothing_to_tell(tidy: Make) -> None:
    first = {("2011", "2011"): 5.0}
    for scores in (tidy("eac", first), tidy("naive_weekly", WEEKLY), pl.DataFrame(schema=SCHEMA)):
        table = transfer_table(scores, horizons=[PUBLISHED])
        assert not len(table) and table.schema == TRANSFER


@pytest.fixture(scope="module")
def losses(matrix_losses: Make) -> pl.DataFrame:
    return pl.concat([matrix_losses("eac", HAND, seeds=(1, 2)), matrix_losses("naive_weekly", WEEKLY)])


def test_intervals_lie_around_the_values_of_the_scores(losses: pl.DataFrame, scores_of: Make) -> None:
    scores = scores_of(losses)
    table = transfer_table(scores, losses, **OPTIONS)
    for horizon in OPTIONS["horizons"]:
        matrix = PeriodMatrix.of(scores.filter(model="eac"), horizon=horizon)
        for measure in MEASURES:
            low, value, high = bounds(table, measure, horizon)
            assert low < value < high
            assert (low + high) / 2 == pytest.approx(value), "the losses give the error that the scores give"
        assert bounds(table, "forgetting", horizon)[1] == matrix.forgetting


def test_planted_forgetting_is_told_from_none(matrix_losses: Make, scores_of: Make) -> None:
    kept = {("2011", "2011"): 5.0, ("2012", "2011"): 5.0, ("2012", "2012"): 5.0}
    both = [matrix_losses("keeps", kept), matrix_losses("forgets", kept | {("2012", "2011"): 6.0})]
    losses = pl.concat(both)
    table = transfer_table(scores_of(losses), losses, horizons=[PUBLISHED])
    assert table.filter(model="forgets", measure="forgetting").select(pl.col("low") > 0.5).item()
    (row,) = table.filter(model="keeps", measure="forgetting").to_dicts()
    assert row["low"] < 0 < row["high"]


def test_losses_are_needed_for_intervals_and_for_those_of_forward_transfer_the_baselines(
    losses: pl.DataFrame, scores_of: Make
) -> None:
    scores = scores_of(losses)
    alone = transfer_table(scores, losses.filter(model="eac"), **OPTIONS)
    other = losses.with_columns(data=pl.when(pl.col("model") == "eac").then("data").otherwise(pl.lit("x")))
    for table in (alone, transfer_table(scores, other, **OPTIONS)):
        assert bounds(table, "forward_transfer")[::2] == (None, None)
        assert bounds(table, "plasticity")[0] is not None
    table = transfer_table(scores, losses.filter(model="naive_weekly"), **OPTIONS)
    assert table["low"].null_count() == len(table)


def test_the_same_seed_draws_the_same_interval(losses: pl.DataFrame, scores_of: Make) -> None:
    scores = scores_of(losses)
    one, same, other = (transfer_table(scores, losses, seed=seed, **OPTIONS) for seed in (3, 3, 4))
    assert one.equals(same) and not one.equals(other)


def test_losses_that_lack_an_entry_or_a_window_are_refused(losses: pl.DataFrame, scores_of: Make) -> None:
    scores = scores_of(losses)
    last = (pl.col("trained_through") == "2013") & (pl.col("period") == "2011")
    with pytest.raises(InputError, match="'eac' trained through 2013 and tested on 2011 there are scores or losses"):
        transfer_table(scores, losses.filter(~last), **OPTIONS)
    with pytest.raises(InputError, match="Period 2011: loss sums and cells have shapes"):
        transfer_table(scores, losses.filter(~last | (pl.col("issued_at") > 0)), **OPTIONS)
    with pytest.raises(InputError, match="'at:5' is not one of forecasts of 4 steps"):
        transfer_table(scores.with_columns(pl.col("horizon").replace("at:4", "at:5")), losses, horizons=["at:5"])
