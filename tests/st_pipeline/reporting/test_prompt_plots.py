"""Pictures of prompts show the numbers they are given, whatever is missing, and are the same for the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from st_pipeline.reporting.images import svg_text
from st_pipeline.reporting.prompt_plots import (
    cost_plot,
    epoch_deviation_plot,
    few_shot_plot,
    period_deviation_plot,
    rank_plot,
    spectrum_plot,
)

HISTORY = {"2011": [1.0, 2.0, 4.0], "2012": [], "2013": [5.0]}
ANALYSIS = pl.DataFrame(
    {
        "period": ["2012", "2011", "2011", "2013"],
        "seed": [1, 1, 2, 1],
        "deviation_before": [6.0, 5.0, 7.0, None],
        "deviation_after": [9.0, 7.0, 11.0, None],
        "closed_form": [2.0, 1.0, 2.0, 3.0],
    }
)
SHARES = {"2011": [0.5, 0.8, 1.0], "2012": [0.7, 1.0]}
RANKS = pl.DataFrame(
    {
        "rank": [6, 2, 2, None, 8],
        "error": [13.0, 14.0, 16.0, 13.5, None],
        "tuned_share": [0.6, 0.3, 0.3, 0.8, 0.7],
    }
)
FEW = pl.DataFrame(
    {
        "model": ["eac", "eac", "eac", "retrain", "retrain"],
        "train": [0.2, 0.6, 0.6, 0.2, 0.6],
        "period": ["2011", "2011", "2012", "2012", "2011"],
        "error": [5.0, 4.0, 3.0, 6.0, None],
    }
)
LEDGER = pl.DataFrame(
    {
        "model": ["eac", "retrain", "pretrain", "untimed"],
        "error": [13.5, 14.0, 15.0, 14.5],
        "tuned": [5000, 20000, 0, 9],
        "seconds": [100.0, 120.0, 90.0, None],
    }
)
EVERY: list[Callable[[], Figure]] = [
    lambda: epoch_deviation_plot(HISTORY),
    lambda: period_deviation_plot(ANALYSIS),
    lambda: spectrum_plot(SHARES),
    lambda: rank_plot(RANKS),
    lambda: few_shot_plot(FEW),
    lambda: cost_plot(LEDGER),
]
EMPTY: list[Callable[[], Figure]] = [
    lambda: epoch_deviation_plot({"2011": []}),
    lambda: period_deviation_plot(ANALYSIS.clear()),
    lambda: spectrum_plot({}),
    lambda: rank_plot(RANKS.clear()),
    lambda: few_shot_plot(FEW.filter(pl.col("error").is_null())),
    lambda: cost_plot(LEDGER.tail(1)),
]


def curves(figure: Figure) -> dict[str, list[list[float]]]:
    """x and y of every named line of the first axes."""
    lines = [line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")]
    return {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in lines}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("draw", EVERY)
def test_the_same_numbers_make_the_same_picture(draw: Callable[[], Figure]) -> None:
    text = svg_text(draw(), "figure")
    assert text == svg_text(draw(), "figure")
    assert "nan" not in text.lower()


@pytest.mark.parametrize("draw", EMPTY)
def test_nothing_to_show_is_said(draw: Callable[[], Figure]) -> None:
    figure = draw()
    assert svg_text(figure, "figure")
    assert len(words(figure)) == 1
    assert words(figure)[0].startswith("no ")


def test_epochs_are_counted_on_from_period_to_period() -> None:
    found = curves(epoch_deviation_plot(HISTORY))
    assert found == {"2011": [[1, 1], [2, 2], [3, 4]], "2013": [[4, 5]]}


def test_the_sides_of_the_proposition_are_means_over_seeds_of_known_periods() -> None:
    figure = period_deviation_plot(ANALYSIS)
    assert curves(figure) == {
        "inputs, D(X)": [[0, 6], [1, 6]],
        "with prompts, D(X + P)": [[0, 9], [1, 9]],
        "D(X) + closed form": [[0, 7.5], [1, 8]],
    }
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2011", "2012"]


def test_singular_values_are_counted_from_one() -> None:
    found = curves(spectrum_plot(SHARES))
    assert found["2012"] == [[1, 0.7], [2, 1.0]]
    assert [x for x, _ in found["2011"]] == [1, 2, 3]


def test_many_periods_are_named_now_and_then() -> None:
    many = {f"{year}": [0.5, 1.0] for year in range(1950, 2024)}
    legend = spectrum_plot(many).axes[0].get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) <= 12
    assert names[0] == "1950"
    table = pl.DataFrame([{"model": "eac", "train": 0.6, "period": key, "error": 1.0} for key in many])
    assert len(few_shot_plot(table).axes[0].get_xticks()) <= 12


def test_ranks_show_their_mean_error_and_the_share_that_is_tuned() -> None:
    figure = rank_plot(RANKS)
    axes, other = figure.axes
    (points, _, _) = axes.containers[0]
    assert points.get_xydata().tolist() == [[2, 15], [6, 13]]
    assert [bar.get_height() for bar in other.patches] == pytest.approx([30, 60])
    assert curves(figure)["full table, 80 % tuned"] == [[0, 13.5], [1, 13.5]]


def test_a_full_table_alone_is_a_line_across() -> None:
    assert list(curves(rank_plot(RANKS.filter(pl.col("rank").is_null())))) == ["full table, 80 % tuned"]
    unknown = RANKS.with_columns(pl.lit(None, dtype=pl.Float64).alias("tuned_share"))
    assert "full table" in curves(rank_plot(unknown))


def test_few_shot_lines_are_dashed_and_keep_their_model_s_colour() -> None:
    figure = few_shot_plot(FEW)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert curves(figure) == {"eac, 60 %": [[0, 4], [1, 3]], "eac, 20 %": [[0, 5]], "retrain, 20 %": [[1, 6]]}
    assert (lines["eac, 60 %"].get_linestyle(), lines["eac, 20 %"].get_linestyle()) == ("-", "--")
    assert lines["eac, 60 %"].get_color() == lines["eac, 20 %"].get_color() != lines["retrain, 20 %"].get_color()


def test_bubbles_lie_at_time_and_error_and_grow_with_what_is_tuned() -> None:
    figure = cost_plot(LEDGER)
    axes = figure.axes[0]
    bubbles, dots = axes.collections[::2], axes.collections[1::2]
    assert [dot.get_offsets().tolist()[0] for dot in dots] == [[100, 13.5], [120, 14], [90, 15]]
    eac, retrain, pretrain = (bubble.get_sizes()[0] for bubble in bubbles)
    assert (retrain / eac, pretrain) == (pytest.approx(4), 0)
    assert words(figure) == ["eac, 5,000", "retrain, 20,000", "pretrain, 0"]
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize(("seconds", "scale"), [(0.0, "linear"), (1.0, "log")])
def test_times_far_apart_are_on_a_logarithmic_axis(seconds: float, scale: str) -> None:
    table = LEDGER.head(2).with_columns(pl.Series("seconds", [seconds, 500.0]))
    assert cost_plot(table).axes[0].get_xscale() == scale
