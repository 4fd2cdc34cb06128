"""Pictures of HimNet's embeddings show their principal planes, and a sensor has one colour wherever it is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from st_pipeline.data.positions import Positions
from st_pipeline.reporting.himnet_plots import (
    DAYS,
    colours_of,
    principal_plane,
    spatial_map,
    spatial_plot,
    temporal_plot,
)
from st_pipeline.reporting.images import svg_text

SLOTS, SENSORS = 24, 9
RANDOM = np.random.default_rng(0)
TIMES, WEEKDAYS = RANDOM.normal(size=(SLOTS, 5)).astype(np.float32), RANDOM.normal(size=(7, 3)).astype(np.float32)
EMBEDDING = RANDOM.normal(size=(SENSORS, 6)).astype(np.float32)
PLACES = Positions(RANDOM.uniform([-118.5, 34.0], [-118.0, 34.3], (SENSORS, 2)), geographic=True)
NOWHERE = Positions(np.full((SENSORS, 2), np.nan), geographic=True)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: temporal_plot(TIMES, WEEKDAYS),
        lambda: spatial_plot(EMBEDDING),
        lambda: spatial_map(EMBEDDING, PLACES),
    ],
)
def test_the_same_numbers_make_the_same_picture(draw: Callable[[], Figure]) -> None:
    text = svg_text(draw(), "figure")
    assert text == svg_text(draw(), "figure")
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: temporal_plot(TIMES[:0], WEEKDAYS),
        lambda: spatial_plot(EMBEDDING[:0]),
        lambda: spatial_map(EMBEDDING, NOWHERE),
    ],
)
def test_nothing_to_show_is_said(draw: Callable[[], Figure]) -> None:
    figure = draw()
    assert svg_text(figure, "figure")
    assert [text.get_text()[:3] for text in figure.axes[0].texts] == ["no "]


def test_the_principal_plane_is_that_of_the_covariance() -> None:
    points, shares = principal_plane(EMBEDDING)
    values, vectors = np.linalg.eigh(np.cov(EMBEDDING.T, bias=True))
    assert_allclose(shares, values[:-3:-1] / values.sum(), rtol=1e-5)
    centred = EMBEDDING - EMBEDDING.mean(0)
    assert_allclose(np.abs(points), np.abs(centred @ vectors[:, :-3:-1]), atol=1e-5)
    assert_allclose(principal_plane(EMBEDDING + 3)[0], points, atol=1e-5)


def test_an_axis_points_to_where_its_largest_component_is_positive() -> None:
    line = np.array([[0.0, 0.0, 0.1], [0.0, -1.0, 0.0], [0.0, -2.0, 0.1]])
    assert_allclose(principal_plane(line)[0][:, 0], [1, 0, -1], atol=1e-12)
    assert_allclose(principal_plane(-line)[0][:, 0], [-1, 0, 1], atol=1e-12)


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((5, 4)), np.arange(5.0)[:, None]])
def test_axes_that_do_not_exist_have_no_extent(rows: np.ndarray) -> None:
    points, shares = principal_plane(rows)
    assert points.shape == (len(rows), 2)
    assert np.isfinite(points).all()
    assert np.count_nonzero(shares) == (rows.ndim == 2 and rows.shape[1] == 1)
    assert not points[:, 1].any()
    assert np.isfinite(colours_of(points)).all()


def test_colours_are_grey_in_the_middle_and_opposite_on_opposite_sides() -> None:
    middle, right, left, half = colours_of(np.array([[0.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [1.0, 0.0]]))
    assert_allclose(middle, [0.8, 0.8, 0.8])
    assert_allclose(right, [0.8, 0, 0])
    assert_allclose(left, [0, 0.8, 0.8])
    assert_allclose(half, [0.8, 0.4, 0.4])


def test_every_time_of_every_day_is_a_dot() -> None:
    axes, bar = temporal_plot(TIMES, WEEKDAYS).axes
    days = axes.collections
    assert len(days) == 7
    where = np.concatenate([day.get_offsets() for day in days]).reshape(7, SLOTS, 2)
    week = np.array([[np.r_[time, day] for time in TIMES] for day in WEEKDAYS])
    assert_allclose(where, principal_plane(week.reshape(-1, 8))[0].reshape(7, SLOTS, 2), atol=1e-6)
    assert all(np.array_equal(day.get_array(), np.arange(SLOTS)) for day in days)
    assert bar.get_ylabel() == "hour of the day"
    markers = {day.get_paths()[0].vertices.tobytes() for day in days}
    assert len(markers) == 7
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(DAYS)


def test_a_slot_is_coloured_by_its_hour() -> None:
    quarters = np.repeat(TIMES, 4, axis=0)
    assert temporal_plot(quarters, WEEKDAYS).axes[0].collections[0].get_array().tolist() == (np.arange(96) / 4).tolist()


def test_a_sensor_has_one_colour_on_the_plane_and_on_the_map() -> None:
    unknown = Positions(PLACES.plane.copy(), geographic=True)
    unknown.plane[4] = np.nan
    (dots,), (places,) = (
        figure.axes[0].collections for figure in (spatial_plot(EMBEDDING), spatial_map(EMBEDDING, unknown))
    )
    assert_allclose(dots.get_offsets(), principal_plane(EMBEDDING)[0])
    kept = np.delete(np.arange(SENSORS), 4)
    assert_allclose(places.get_offsets(), PLACES.plane[kept])
    assert_allclose(places.get_facecolors(), dots.get_facecolors()[kept])
    assert len({to_rgb(colour) for colour in dots.get_facecolors()}) == SENSORS


def test_axes_are_named_and_a_degree_of_longitude_is_as_long_as_it_is_there() -> None:
    geographic = spatial_map(EMBEDDING, PLACES).axes[0]
    assert (geographic.get_xlabel(), geographic.get_ylabel()) == ("longitude", "latitude")
    assert geographic.get_aspect() == pytest.approx(1 / np.cos(np.radians(PLACES.plane[:, 1].mean())))
    planar = spatial_map(EMBEDDING, Positions(PLACES.plane, geographic=False)).axes[0]
    assert (planar.get_xlabel(), planar.get_aspect()) == ("x in metres", 1)
    flat = spatial_plot(np.arange(5.0)[:, None]).axes[0]
    assert "100 % of the variance" in flat.get_xlabel()
    assert flat.get_ylabel().endswith(" 0 %")
