"""Sensors and the roads between them."""

from __future__ import annotations

import numpy as np
import polars as pl

from st_pipeline.simulation import Simulation
from st_pipeline.simulation.tables import first_reached


def test_the_way_to_the_next_sensors_ends_at_them() -> None:
    after = [[1], [2, 3], [4], [4], [5], []]
    length = [100.0, 100.0, 300.0, 50.0, 100.0, 100.0]
    reached = first_reached(0, after=after, length=length, sites={0: "a", 3: "b", 5: "c"})
    assert reached == {"b": 50 + 100 + 25, "c": 50 + 100 + 300 + 100 + 50}


def test_one_row_per_sensor_and_a_second_for_a_moved_one(default: Simulation) -> None:
    sensors = default.sensors
    rows = sensors.group_by("sensor_id").len()
    assert len(rows) == default.scenario.sensors_ever
    assert set(rows["len"]) == {1, 2}
    moved = sensors.filter(pl.len().over("sensor_id") == 2)
    for _, places in moved.group_by("sensor_id"):
        first, second = places.sort("valid_from").iter_rows(named=True)
        assert first["valid_from"] == first["installed"]
        assert second["valid_from"] > first["valid_from"]
        assert (first["road"], first["direction"]) == (second["road"], second["direction"])
        assert np.hypot(first["x_m"] - second["x_m"], first["y_m"] - second["y_m"]) > 500
    assert sensors["kind"].unique().sort().to_list() == ["connector", "mainline"]


def test_roads_are_no_shorter_than_the_bee_flies(default: Simulation) -> None:
    places = default.sensors.sort("valid_from").unique("sensor_id", keep="last").select("sensor_id", "x_m", "y_m")
    edges = default.edges.join(places, left_on="source", right_on="sensor_id").join(
        places, left_on="target", right_on="sensor_id", suffix="_target"
    )
    assert len(edges) == len(default.edges)
    straight = np.hypot(edges["x_m"] - edges["x_m_target"], edges["y_m"] - edges["y_m_target"])
    assert (edges["distance_m"] > 0.97 * straight).all()
    assert edges["distance_m"].min() >= 500


def test_edges_are_unique_and_join_almost_all_sensors(default: Simulation) -> None:
    edges = default.edges
    assert edges.select("source", "target").is_unique().all()
    assert (edges["source"] != edges["target"]).all()
    ids = set(default.sensors["sensor_id"])
    joined = set(edges["source"]) | set(edges["target"])
    assert joined <= ids
    assert len(joined) > 0.95 * len(ids)
