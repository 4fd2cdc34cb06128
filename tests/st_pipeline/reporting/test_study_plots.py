"""A study's picture is the one that its key asks for, and shows the numbers it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.evaluation.studies import ERRORS, STUDY
from st_pipeline.reporting.images import svg_text
from st_pipeline.reporting.study_plots import study_cost_plot, study_plot, value_plot

PERIODS = ("2011", "2012")


def table(key: str, errors: dict[str, float | None], *, std: float | None = None) -> pl.DataFrame:
    """A row per value, the first being the base."""
    rows = [
        {"study": "s", "key": key, "value": value, "model": f"eac_s_{value}" if index else "eac", "mae": error}
        | {"mae_std": std, "trainable": 10.0 * (index + 1), "tuned_share": 0.1 * (index + 1), "seconds": 2.0 + index}
        for index, (value, error) in enumerate(errors.items())
    ]
    return pl.DataFrame(rows, schema=STUDY)


def errors_of(frame: pl.DataFrame) -> pl.DataFrame:
    """Two seeds around the table's error in two periods."""
    rows = [
        {"value": row["value"], "model": row["model"], "seed": seed, "period": period, "mae": row["mae"] + seed}
        for row in frame.drop_nulls("mae").iter_rows(named=True)
        for seed in (-1, 1)
        for period in PERIODS
    ]
    return pl.DataFrame(rows, schema=ERRORS)


def text(frame: pl.DataFrame) -> str:
    return svg_text(study_plot(frame, errors_of(frame)), "study")


def lines(figure: Any) -> list[tuple[list[float], list[float]]]:
    (axes, *_) = figure.axes
    return [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in axes.get_lines()]


def test_ranks_are_drawn_as_in_figure_7() -> None:
    frame = table("prompt_pool.rank", {"6": 13.0, "2": 14.0, "full": 12.0, "null": 99.0})
    figure = study_plot(frame, errors_of(frame))
    drawn = lines(figure)
    assert ([2.0, 6.0], [14.0, 13.0]) in drawn
    assert any(set(heights) == {12.0} for _, heights in drawn), "the full table is a line across"
    assert not any(99.0 in heights for _, heights in drawn), "a model without a pool has no rank"
    assert "rank of the prompt pool" in text(frame) and "tuned parameters" in text(frame)


def test_shares_are_drawn_as_in_figure_5() -> None:
    frame = table("training.share", {"0.6": 13.0, "0.2": 15.0})
    drawn = lines(study_plot(frame, errors_of(frame)))
    assert drawn == [([0.0, 1.0], [13.0, 13.0]), ([0.0, 1.0], [15.0, 15.0])]
    assert all(word in text(frame) for word in ("eac, 60 %", "eac, 20 %", *PERIODS))


def test_numbers_stand_where_they_belong() -> None:
    frame = table("strategy.first_nodes", {"1.0": 13.0, "0.25": 14.0, "0.5": 13.5}, std=0.2)
    figure = value_plot(frame)
    assert ([0.25, 0.5, 1.0], [14.0, 13.5, 13.0]) in lines(figure)
    assert figure.axes[0].get_xscale() == "linear"
    assert "strategy.first_nodes" in text(frame) and "eac, 1.0" in text(frame)


def test_numbers_of_many_sizes_stand_on_a_log_axis() -> None:
    assert value_plot(table("training.learning_rate", {"0.03": 1.0, "0.0001": 2.0})).axes[0].get_xscale() == "log"


def test_names_stand_side_by_side() -> None:
    frame = table("case", {"unchanged": 13.0, "without_prompts": 14.0})
    figure = value_plot(frame)
    assert ([0.0, 1.0], [13.0, 14.0]) in lines(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["unchanged", "without_prompts"]


def test_what_was_not_scored_is_left_out() -> None:
    frame = table("seed", {"1": None, "2": 14.0, "3": 15.0})
    drawn = lines(value_plot(frame))
    assert ([2.0, 3.0], [14.0, 15.0]) in drawn
    assert not any(np.isnan(heights).any() for _, heights in drawn)
    assert "eac, 1" not in text(frame)


@pytest.mark.parametrize("seconds", [2.0, None])
def test_costs_are_drawn_as_in_figure_6(seconds: float | None) -> None:
    frame = table("seed", {"1": 13.0, "2": 14.0}).with_columns(seconds=pl.lit(seconds, pl.Float64))
    found = svg_text(study_cost_plot(frame), "cost")
    assert ("eac_s_2, 20" in found) == (seconds is not None)


def test_the_same_numbers_give_the_same_picture() -> None:
    for key in ("prompt_pool.rank", "training.share", "seed"):
        frame = table(key, {"1": 13.0, "0": 14.0})
        assert text(frame) == text(frame)
