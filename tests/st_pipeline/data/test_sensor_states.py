"""Lives in words: states follow the node sets, neighbouring periods are one interval."""

from __future__ import annotations

from datetime import date

import polars as pl

from st_pipeline.data.sensor_states import sensor_lives
from st_pipeline.readers.base import SENSOR_SCHEMA, UNIT_SCHEMA
from st_pipeline.types import NodeSet

SCHEMA = {**SENSOR_SCHEMA, **UNIT_SCHEMA}
BORN = {"a": "1", "b": "1"}
NODES = {
    "1": NodeSet("1", ("a", "b"), ("a", "b"), births=BORN),
    "2": NodeSet("2", ("a", "b"), silent=("b",), moved=("a",), births=BORN),
    "3": NodeSet("3", ("a",), retired=("b",), births=BORN),
    "4": NodeSet("4", ("a", "c", "b"), ("c",), ("b",), births={**BORN, "c": "4"}),
}


def table(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([{**dict.fromkeys(SCHEMA), **row} for row in rows], schema=SCHEMA)


def test_states_and_changes() -> None:
    rated = {"sensor_id": "c", "valid_from": date(2024, 5, 1), "unit_factor": 3.6}
    sensors = table({"sensor_id": "a"}, {"sensor_id": "c"}, rated, {"sensor_id": "z"})
    lives = {life.sensor_id: life for life in sensor_lives(sensors, NODES)}
    assert list(lives) == ["a", "b", "c", "z"]
    assert lives["a"].intervals == (("active", "1", "4"),) and lives["a"].changes == (("moved", "2"),)
    expected = (("active", "1", "1"), ("silent", "2", "2"), ("retired", "3", "3"), ("active", "4", "4"))
    assert lives["b"].intervals == expected
    assert lives["c"].intervals == (("planned", "1", "3"), ("active", "4", "4"))
    assert lives["c"].changes == (("unit changed", "2024-05-01"),)
    assert (lives["z"].state, lives["b"].state) == ("planned", "active")


def test_before_the_first_period_all_are_planned() -> None:
    (life,) = sensor_lives(table({"sensor_id": "a"}), {})
    assert life.document() == {"sensor_id": "a", "state": "planned", "intervals": [], "changes": []}
