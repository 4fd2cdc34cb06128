"""A place joins the tables like a sensor; coordinates of the wrong kind are refused."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.site import known_site, nearest, neighbours, new_site
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA

DAY = date(2024, 3, 1)


@pytest.fixture
def globe() -> pl.DataFrame:
    rows = [{"sensor_id": name, "latitude": -37.8 + 0.01 * at, "longitude": 145.0} for at, name in enumerate("abc")]
    return pl.DataFrame(rows, schema=SENSOR_SCHEMA)


def edges(*rows: tuple[str, str, float | None, float | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=EDGE_SCHEMA, orient="row")


def test_a_place_is_a_row_of_the_sensor_table(globe: pl.DataFrame) -> None:
    site = new_site("town", {"latitude": -37.79, "longitude": 145.0}, globe, None, DAY)
    assert site.sensors.height == 4 and site.sensors.schema == globe.schema
    assert site.sensors.head(3).equals(globe)
    near = nearest(site.name, list("abc"), site.sensors, DAY)
    assert near is not None and near[0] == "b" and near[1] == pytest.approx(0, abs=1)


def test_a_place_takes_no_sensors_name(globe: pl.DataFrame) -> None:
    taken = globe.with_columns(sensor_id=pl.Series(["new", "b", "new'"]))
    site = new_site("town", {"latitude": 0, "longitude": 0}, taken, None, DAY)
    assert site.name not in set(taken["sensor_id"])


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (
            {"latitude": 145.0, "longitude": -37.8},
            "--latitude 145: expected degrees from -90 to 90; are the two swapped",
        ),
        ({"latitude": -37.8, "longitude": 181.0}, "--longitude 181: expected degrees from -180 to 180"),
        ({"latitude": float("nan"), "longitude": 145.0}, "--latitude nan: expected degrees"),
        ({"x": 1.0, "y": 2.0}, "have latitude and longitude in degrees, found x and y; give --latitude"),
        ({"latitude": 1.0}, "found latitude; give --latitude and --longitude"),
    ],
)
def test_coordinates_of_another_kind_are_told(globe: pl.DataFrame, place: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=r"town|--") as error:
        new_site("town", place, globe, None, DAY)
    assert told in str(error.value)


def test_a_plane_has_metres(sensor_table: Any) -> None:
    with pytest.raises(InputError, match="have x and y in metres, found latitude and longitude; give --x and --y"):
        new_site("town", {"latitude": 1.0, "longitude": 1.0}, sensor_table("abc"), None, DAY)
    with pytest.raises(InputError, match="--y inf: expected metres"):
        new_site("town", {"x": 1.0, "y": float("inf")}, sensor_table("abc"), None, DAY)


def test_sensors_without_positions_have_no_places(sensor_table: Any) -> None:
    bare = sensor_table("abc").with_columns(x=pl.lit(None, pl.Float64), y=pl.lit(None, pl.Float64))
    with pytest.raises(InputError, match="no sensor has a position, so a place has no neighbours; use --sensor"):
        new_site("town", {"x": 1.0, "y": 1.0}, bare, None, DAY)
    assert nearest("a", ["b"], bare, DAY) is None


def test_an_unknown_sensor_is_told_with_the_closest(sensor_table: Any) -> None:
    table = sensor_table("abc").with_columns(sensor_id=pl.Series(["north", "south", "west"]))
    assert known_site("town", "west", table, None).name == "west"
    with pytest.raises(InputError, match="'town' has no sensor 'sout'; did you mean 'south'"):
        known_site("town", "sout", table, None)


def test_edges_of_a_place_are_as_long_as_given_ones_are_for_their_straight_line(sensor_table: Any) -> None:
    """Kilometres along a road that is twice as long as the straight line; b and c are 100 m apart."""
    given = edges(("a", "b", 0.2, None), ("b", "c", 0.2, None), ("c", "d", 0.2, None))
    site = new_site("town", {"x": 150.0, "y": 0.0}, sensor_table("abcd"), given, DAY)
    assert site.edges is not None
    own = site.edges.filter((pl.col("source") == site.name) | (pl.col("target") == site.name))
    assert set(own["source"]) | set(own["target"]) == {site.name, "b", "c"}
    assert own["distance"].to_list() == pytest.approx([0.1] * 4)
    assert site.edges.head(3).equals(given) and "straight distances times 0.002" in site.note
    far = new_site("town", {"x": 9000.0, "y": 0.0}, sensor_table("abcd"), given, DAY)
    assert far.edges is not None and far.edges.equals(given)


def test_edges_that_are_given_as_weights_cannot_be_made(sensor_table: Any) -> None:
    given = edges(("a", "b", None, 0.3))
    site = new_site("town", {"x": 150.0, "y": 0.0}, sensor_table("ab"), given, DAY)
    assert site.edges is not None and site.edges.equals(given)
    assert "none can be made of coordinates" in site.note


def test_neighbours_come_with_shares_that_sum_to_one(sensor_table: Any) -> None:
    rows = neighbours("a", ["b", "c", "d"], [0.2, 0.6, 0.0], sensor_table("abcd"), DAY)
    assert [(row["sensor_id"], row["metres"]) for row in rows] == [("c", 200.0), ("b", 100.0)]
    assert [row["share"] for row in rows] == pytest.approx([0.75, 0.25])
    assert neighbours("a", ["b"], [0.0], sensor_table("ab"), DAY) == []
