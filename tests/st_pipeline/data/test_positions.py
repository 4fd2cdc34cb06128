"""Places as of a day, and distances between them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.positions import BLOCK, EARTH_RADIUS, Positions, positions_at
from st_pipeline.readers.base import SENSOR_SCHEMA

MakeSensors = Callable[..., pl.DataFrame]
DAY = date(2024, 6, 1)


def haversine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Great-circle distance of (longitude, latitude) in degrees, metres."""
    (lon1, lat1), (lon2, lat2) = np.radians(one).T, np.radians(other).T
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS * np.arcsin(np.sqrt(half))


def scattered(count: int, *, geographic: bool, seed: int = 0) -> Positions:
    random = np.random.default_rng(seed)
    plane = random.uniform([-180, -90], [180, 90], (count, 2)) if geographic else random.uniform(0, 9000, (count, 2))
    return Positions(plane, geographic)


def test_the_latest_row_valid_on_the_day_counts(make_sensors: MakeSensors) -> None:
    days = [None, date(2024, 1, 1), date(2024, 6, 1), date(2024, 6, 2)]
    rows = [{"sensor_id": "a", "x": float(place), "y": 0.0, "valid_from": day} for place, day in enumerate(days)]
    for table in (rows, rows[::-1]):
        sensors = make_sensors(*table, {"sensor_id": "b", "x": 9.0, "y": 9.0})
        for day, expected in ((date(2023, 1, 1), 0), (date(2024, 5, 31), 1), (DAY, 2), (date(2025, 1, 1), 3)):
            assert positions_at(sensors, ["b", "a"], day).plane.tolist() == [[9, 9], [expected, 0]]


def test_before_its_first_row_a_sensor_lies_where_it_will(make_sensors: MakeSensors) -> None:
    rows = [
        {"sensor_id": "a", "x": float(year), "y": 0.0, "valid_from": date(year, 1, 1)} for year in (2027, 2025, 2026)
    ]
    assert positions_at(make_sensors(*rows), ["a"], DAY).plane.tolist() == [[2025, 0]]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.dates(date(2024, 1, 1), date(2024, 12, 31)))),
        unique=True,
        max_size=12,
    )
)
def test_positions_are_those_of_a_search_by_hand(
    make_sensors: MakeSensors, rows: list[tuple[str, date | None]]
) -> None:
    table = [{"sensor_id": name, "x": float(n), "y": 0.0, "valid_from": day} for n, (name, day) in enumerate(rows)]
    expected = []
    for name in "cab":
        own = sorted((day or date.min, n) for n, (other, day) in enumerate(rows) if other == name)
        valid = [n for day, n in own if day <= DAY]
        expected.append(valid[-1] if valid else own[0][1] if own else np.nan)
    found = positions_at(make_sensors(*table), list("cab"), DAY).plane[:, 0]
    assert np.array_equal(found, expected, equal_nan=True)


def test_degrees_go_before_metres_and_half_a_position_is_none(make_sensors: MakeSensors) -> None:
    sensors = make_sensors(
        {"sensor_id": "a", "latitude": 52.0, "longitude": 13.0, "x": 1.0, "y": 2.0},
        {"sensor_id": "b", "latitude": 52.0},
        {"sensor_id": "c", "x": 1.0, "y": 2.0},
    )
    found = positions_at(sensors, list("abcd"), DAY)
    assert found.geographic
    assert found.plane[0].tolist() == [13, 52]
    assert found.known.tolist() == [0]


@pytest.mark.parametrize("ids", [(), ("a", "b")])
def test_without_a_sensor_table_no_position_is_known(ids: tuple[str, ...]) -> None:
    found = positions_at(pl.DataFrame(schema=SENSOR_SCHEMA), ids, DAY)
    assert found.plane.shape == (len(ids), 2)
    assert not len(found.known)
    assert found.spread() == 0


def test_chords_stand_for_great_circles() -> None:
    positions = scattered(200, geographic=True)
    points = positions.cartesian()
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), EARTH_RADIUS)
    chord = np.linalg.norm(points[:100] - points[100:], axis=1)
    along = positions.along_surface(chord)
    np.testing.assert_allclose(along, haversine(positions.plane[:100], positions.plane[100:]), rtol=1e-9)
    np.testing.assert_allclose([positions.straight(length) for length in along], chord, rtol=1e-9)
    assert positions.straight(1e12) == pytest.approx(2 * EARTH_RADIUS)


def test_in_the_plane_distances_are_themselves() -> None:
    positions = scattered(5, geographic=False)
    assert np.array_equal(positions.cartesian()[:, :2], positions.plane)
    assert positions.straight(12.5) == 12.5
    assert np.array_equal(positions.along_surface(positions.plane[:, 0]), positions.plane[:, 0])


@pytest.mark.parametrize("geographic", [True, False])
@pytest.mark.parametrize("count", [2, 40, BLOCK + 3])
def test_spread_is_the_deviation_over_all_pairs(geographic: bool, count: int) -> None:
    positions = scattered(count, geographic=geographic)
    positions.plane[0] = np.nan if count > 2 else positions.plane[0]
    known = positions.plane[positions.known]
    one, two = np.triu_indices(len(known), k=1)
    distance: Any = haversine if geographic else lambda a, b: np.linalg.norm(a - b, axis=1)
    expected = distance(known[one], known[two]).std()
    assert positions.spread() == pytest.approx(expected, rel=1e-6, abs=1e-2)
