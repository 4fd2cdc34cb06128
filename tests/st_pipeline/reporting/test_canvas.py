"""What all pictures share: maps are true to scale and say what they lack, names have room."""

from __future__ import annotations

import numpy as np
import pytest

from st_pipeline.data.positions import Positions
from st_pipeline.reporting.canvas import (
    MAP_SIZE,
    MOST_NAMES,
    NAME_LENGTH,
    name_sensors,
    new_figure,
    new_map,
    no_positions,
    nothing,
    short,
)
from st_pipeline.reporting.images import svg_text

MELBOURNE = np.array([[144.94, -37.82], [144.97, -37.81], [np.nan, np.nan]])


def test_a_degree_of_longitude_is_as_long_as_it_is_there() -> None:
    axes = new_map(Positions(MELBOURNE, geographic=True))[1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("longitude", "latitude")
    assert axes.get_aspect() == pytest.approx(1 / np.cos(np.radians(-37.815)))
    planar = new_map(Positions(MELBOURNE, geographic=False))[1]
    assert (planar.get_xlabel(), planar.get_ylabel(), planar.get_aspect()) == ("x in metres", "y in metres", 1)


def test_positions_are_read_off_whole() -> None:
    figure, axes = new_map(Positions(MELBOURNE, geographic=True))
    axes.scatter(*MELBOURNE[:2].T)
    figure.draw_without_rendering()
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert all(float(label.get_text()) > 144 for label in axes.get_xticklabels())
    assert len(axes.get_xticklabels()) <= 7


@pytest.mark.parametrize(
    ("plane", "height"),
    [
        ([[0, 0], [10, 0]], 1.6),
        ([[0, 0], [10, 5]], 4.0),
        ([[0, 0], [10, 100]], MAP_SIZE[1]),
        ([[0, 0], [0, 9]], MAP_SIZE[1]),
        ([[3, 4]], MAP_SIZE[1]),
        ([[np.nan, np.nan]], MAP_SIZE[1]),
    ],
)
def test_a_map_is_as_high_as_its_network_asks_for(plane: list[list[float]], height: float) -> None:
    figure = new_map(Positions(np.array(plane, dtype=float), geographic=False))[0]
    assert figure.get_size_inches().tolist() == pytest.approx([MAP_SIZE[0], height])


def test_why_there_is_nothing_is_said() -> None:
    figure = nothing(*new_figure(4, 3), "no such thing")
    assert "no such thing" in svg_text(figure, "figure")
    assert not figure.axes[0].axison
    assert no_positions(Positions(MELBOURNE, geographic=True)) is None
    lost = no_positions(Positions(MELBOURNE[2:], geographic=True))
    assert lost is not None and "no sensor has a position" in svg_text(lost, "figure")


def test_few_sensors_are_named_and_many_counted() -> None:
    axes = new_figure(4, 3)[1]
    name_sensors(axes, ["$x^2$", "b" * 99])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["$x^2$", "b" * NAME_LENGTH + "..."]
    name_sensors(axes, [str(place) for place in range(MOST_NAMES + 1)])
    assert axes.get_xlabel() == f"{MOST_NAMES + 1} sensors"


def test_a_name_is_cut_where_there_is_no_more_room() -> None:
    assert (short("abc", 3), short("abcd", 3)) == ("abc", "abc...")
