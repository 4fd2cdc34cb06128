"""The picture of an attention graph shows the strongest edges, says how many, and does without positions."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from st_pipeline.data.positions import Positions
from st_pipeline.reporting.attention_plots import EDGES_A_SENSOR, MOST_EDGES, attention_plot, strongest
from st_pipeline.reporting.images import svg_text

IDS = ["a", "b", "$c$"]
SENSORS = pl.DataFrame({"sensor_id": IDS, "own": [0.5, 0.9, 0.3], "others": [0.5, 0.1, 0.7], "heard": [1.0, 0.5, 0.0]})
PAIRS = pl.DataFrame(
    [("a", "b", 0.4), ("a", "$c$", 0.1), ("b", "a", 0.1), ("$c$", "b", 0.7)],
    schema=["sensor_id", "reads", "share"],
    orient="row",
)
PLANE = np.array([[144.9, -37.8], [145.0, -37.9], [144.95, -37.8]])
PLACES = Positions(PLANE, geographic=True)
NOWHERE = Positions(np.full((3, 2), np.nan), geographic=True)


def arrows(axes: Axes) -> list[FancyArrowPatch]:
    return [part for part in axes.get_children() if isinstance(part, FancyArrowPatch)]


def matrix(count: int, *, seed: int = 0) -> np.ndarray:
    shares = np.random.default_rng(seed).random((count, count))
    np.fill_diagonal(shares, 0)
    return shares


@pytest.mark.parametrize("places", [PLACES, NOWHERE])
def test_the_same_numbers_make_the_same_picture(places: Positions) -> None:
    text = svg_text(attention_plot(SENSORS, PAIRS, places), "figure")
    assert text == svg_text(attention_plot(SENSORS, PAIRS, places), "figure")
    assert "nan" not in text.lower()


def test_an_arrow_leads_from_what_is_read_to_whose_forecast_it_is() -> None:
    axes = attention_plot(SENSORS, PAIRS, PLACES).axes[0]
    drawn = arrows(axes)
    assert len(drawn) == len(PAIRS) < EDGES_A_SENSOR * 3
    ends = [np.array(arrow._posA_posB) for arrow in drawn]
    np.testing.assert_allclose(ends[-1], PLANE[[1, 2]])  # b is read for c, the strongest is drawn last
    widths = [arrow.get_linewidth() for arrow in drawn]
    assert widths == sorted(widths) and widths[-1] > 2 * widths[0]
    assert axes.get_title(loc="left") == "the 4 strongest edges, with 100 % of the attention to other sensors"


def test_arrows_move_no_limits() -> None:
    axes = attention_plot(SENSORS, PAIRS, PLACES).axes[0]
    low, high = axes.get_xlim()
    assert 144.88 < low < 144.9 and 145.0 < high < 145.02


def test_sensors_are_coloured_by_their_own_share_and_silent_ones_are_hollow() -> None:
    figure = attention_plot(SENSORS, PAIRS, PLACES)
    heard, silent = figure.axes[0].collections
    assert heard.get_offsets().tolist() == PLANE[:2].tolist()
    assert heard.get_array().tolist() == [50.0, 90.0]
    assert silent.get_offsets().tolist() == PLANE[2:].tolist()
    assert silent.get_facecolors()[0].tolist() == list(to_rgba("white"))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["silent in these windows"]
    assert figure.axes[1].get_ylabel() == "attention to own readings in %"
    plain = attention_plot(SENSORS.drop("heard"), PAIRS, PLACES).axes[0]
    assert len(plain.collections[0].get_offsets()) == 3 and plain.get_legend() is None


def test_sensors_without_a_position_are_left_out_and_counted() -> None:
    places = Positions(PLANE.copy(), geographic=True)
    places.plane[1] = np.nan
    axes = attention_plot(SENSORS, PAIRS, places).axes[0]
    assert len(arrows(axes)) == 1
    title = axes.get_title(loc="left")
    assert title.startswith("the 1 strongest edges, with 8 % of the attention")
    assert title.endswith("sensors without a position, left out: 1")
    alone = Positions(np.where(np.arange(3)[:, None] == 0, PLANE, np.nan), geographic=True)
    assert "the 0 strongest edges, with 0 %" in attention_plot(SENSORS, PAIRS, alone).axes[0].get_title(loc="left")


def test_all_sensors_silent_is_a_picture_too() -> None:
    assert svg_text(attention_plot(SENSORS.with_columns(heard=pl.lit(0.0)), PAIRS, PLACES), "figure")


def test_without_positions_edges_are_a_matrix() -> None:
    figure = attention_plot(SENSORS, PAIRS, NOWHERE)
    axes = figure.axes[0]
    (image,) = axes.images
    shown = image.get_array()
    assert shown.mask.tolist() == np.eye(3, dtype=bool).tolist()
    assert shown[0, 1] == pytest.approx(40) and shown[2, 1] == pytest.approx(70) and shown[1, 2] == 0
    assert [label.get_text() for label in axes.get_yticklabels()] == IDS
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("what is read", "whose forecast")
    assert axes.get_title(loc="left") == "4 edges; no sensor has a position"


def test_many_sensors_of_a_matrix_are_counted() -> None:
    ids = [f"s{place}" for place in range(40)]
    sensors = pl.DataFrame({"sensor_id": ids, "own": [0.5] * 40, "others": [0.5] * 40})
    pairs = pl.DataFrame({"sensor_id": ids[:1], "reads": ids[1:2], "share": [0.5]})
    axes = attention_plot(sensors, pairs, Positions(np.full((40, 2), np.nan), geographic=False)).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("40 sensors, what is read", "40 sensors, whose forecast")


@pytest.mark.parametrize("count", [3, 1])
def test_sensors_that_read_no_other_have_no_graph(count: int) -> None:
    figure: Figure = attention_plot(SENSORS[:count], PAIRS.clear(), Positions(PLANE[:count], geographic=True))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no forecast reads another sensor"]


@pytest.mark.parametrize(("count", "known"), [(6, 6), (6, 4), (150, 150)])
def test_the_strongest_edges_are_those_of_the_largest_shares(count: int, known: int) -> None:
    shares, places = matrix(count), np.arange(known)
    edges = strongest(shares, places)
    inside = np.sort(shares[:known, :known][~np.eye(known, dtype=bool)])
    assert len(edges) == min(EDGES_A_SENSOR * known, MOST_EDGES, len(inside))
    drawn = shares[edges[:, 0], edges[:, 1]]
    np.testing.assert_array_equal(drawn, inside[-len(edges) :])
    assert (edges < known).all()
