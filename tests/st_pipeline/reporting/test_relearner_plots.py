"""Pictures of a ReLearner show the numbers of each sensor, and are the same for the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from st_pipeline.data.positions import Positions
from st_pipeline.reporting.images import svg_text
from st_pipeline.reporting.relearner_plots import gate_bars, gate_map, residual_plot

TABLE = pl.DataFrame(
    {
        "sensor_id": ["a", "b", "$c$"],
        "beta": [0.2, 0.9, 0.5],
        "alpha_adaptive": [-0.4, 0.1, 0.8],
        "before": [2.0, 1.0, 3.0],
        "after": [1.0, 1.5, 0.5],
    }
)
GATELESS = TABLE.drop("beta", "alpha_adaptive")
PLACES = Positions(np.array([[144.9, -37.8], [np.nan, np.nan], [145.0, -37.9]]), geographic=True)
NOWHERE = Positions(np.full((3, 2), np.nan), geographic=True)
EVERY: list[Callable[[], Figure]] = [
    lambda: gate_map(TABLE, PLACES),
    lambda: gate_map(TABLE, PLACES, gate="alpha_adaptive"),
    lambda: gate_bars(TABLE),
    lambda: residual_plot(TABLE),
]
EMPTY: list[Callable[[], Figure]] = [
    lambda: gate_map(TABLE, NOWHERE),
    lambda: gate_map(GATELESS, PLACES),
    lambda: gate_bars(GATELESS),
    lambda: gate_bars(TABLE.clear()),
    lambda: residual_plot(TABLE.clear()),
]


@pytest.mark.parametrize("draw", EVERY)
def test_the_same_numbers_make_the_same_picture(draw: Callable[[], Figure]) -> None:
    text = svg_text(draw(), "figure")
    assert text == svg_text(draw(), "figure")
    assert "nan" not in text.lower()


@pytest.mark.parametrize("draw", EMPTY)
def test_nothing_to_show_is_said(draw: Callable[[], Figure]) -> None:
    figure = draw()
    assert svg_text(figure, "figure")
    assert [text.get_text()[:3] for text in figure.axes[0].texts] == ["no "]


@pytest.mark.parametrize(("gate", "low", "label"), [("beta", 0, "gate beta"), ("alpha_adaptive", -1, "neighbours")])
def test_the_map_has_known_sensors_where_they_are_in_the_colour_of_their_gate(gate: str, low: int, label: str) -> None:
    figure = gate_map(TABLE, PLACES, gate=gate)
    axes, bar = figure.axes
    (dots,) = axes.collections
    assert dots.get_offsets().tolist() == [[144.9, -37.8], [145.0, -37.9]]
    assert dots.get_array().tolist() == [TABLE[gate][0], TABLE[gate][2]]
    assert dots.get_clim() == (low, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("longitude", "latitude")
    assert label in bar.get_ylabel()


def test_a_plane_is_in_metres() -> None:
    axes = gate_map(TABLE, Positions(np.zeros((3, 2)), geographic=False)).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x in metres", "y in metres")


def test_bars_are_the_gates_the_most_open_sensor_first() -> None:
    axes = gate_bars(TABLE).axes[0]
    beta, alpha = axes.containers
    assert [bar.get_height() for bar in beta] == [0.9, 0.5, 0.2]
    assert [bar.get_height() for bar in alpha] == [0.1, 0.8, -0.4]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["b", "$c$", "a"]
    assert axes.get_ylim()[0] < -0.4
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "gate beta",
        "weight of neighbours, adaptive",
    ]


def test_residuals_are_shown_before_and_after_with_their_means() -> None:
    axes = residual_plot(TABLE).axes[0]
    before, after = (dots.get_offsets()[:, 1].tolist() for dots in axes.collections[1:])
    assert before == [3.0, 2.0, 1.0]
    assert after == [0.5, 1.0, 1.5]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["before smoothing, mean 2", "after smoothing, mean 1"]


def test_a_residual_that_is_not_smoothed_is_shown_once() -> None:
    axes = residual_plot(GATELESS).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["not smoothed, mean 2"]


def test_many_sensors_are_counted_instead_of_named() -> None:
    many = pl.concat([TABLE.with_columns(pl.lit(f"sensor {place}").alias("sensor_id")) for place in range(20)])
    for figure in (gate_bars(many), residual_plot(many)):
        assert figure.axes[0].get_xlabel() == "60 sensors"
