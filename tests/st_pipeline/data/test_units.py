"""Readings of another unit are converted by the day they were measured on; the table's order says nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.adjacency import ADJACENCY, build_adjacency
from st_pipeline.data.cleaning import clean
from st_pipeline.data.lives import node_set
from st_pipeline.data.units import in_stream_unit, unit_table
from st_pipeline.readers.base import SENSOR_SCHEMA, UNIT_SCHEMA
from st_pipeline.storage import dump_frame

MakeRaw = Callable[..., pl.DataFrame]
TWO_DAYS = {"every": "2d", "start": "2024-01-01", "end": "2024-01-03"}
SCHEMA = {**SENSOR_SCHEMA, **UNIT_SCHEMA}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{**dict.fromkeys(SCHEMA), **row} for row in rows], schema=SCHEMA)


RATED = table(
    {"sensor_id": "a", "valid_from": date(2024, 1, 2), "unit_factor": 0.5},
    {"sensor_id": "b", "unit_factor": 10.0},
    {"sensor_id": "b", "valid_from": date(2024, 1, 2)},
    {"sensor_id": "c"},
)
ROWS = [(name, f"2024-01-0{day} {hour}:00", 8.0) for name in "abc" for day in (1, 2) for hour in ("00", "23")]


def flows(frame: pl.DataFrame, name: str) -> list[float]:
    return frame.filter(pl.col("sensor_id").cast(pl.String) == name).sort("timestamp")["flow"].to_list()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_the_factor_is_that_of_the_local_day(make_stream: Any, make_raw: MakeRaw, zone: str) -> None:
    config = make_stream(periods=TWO_DAYS, timezone=zone)
    raw = make_raw(ROWS)
    instants = raw.with_columns(pl.col("timestamp").dt.replace_time_zone(zone).dt.convert_time_zone("UTC"))
    for rows in (raw, instants):
        found = in_stream_unit(rows, RATED, config)
        assert flows(found, "a") == [8, 8, 4, 4]
        assert flows(found, "b") == [80, 80, 8, 8]
        assert flows(found, "c") == [8, 8, 8, 8]
        assert found.drop("flow").equals(rows.drop("flow"))


def test_a_table_without_factors_leaves_the_very_rows(make_stream: Any, make_raw: MakeRaw) -> None:
    raw = make_raw(ROWS)
    assert in_stream_unit(raw, RATED.drop("unit", "unit_factor"), make_stream()) is raw
    assert in_stream_unit(raw, table({"sensor_id": "a", "unit_factor": 1.0}), make_stream()) is raw
    assert unit_table(RATED)["sensor_id"].unique().sort().to_list() == ["a", "b"]


def test_sentinels_stay_and_ranges_are_those_of_the_streams_unit(make_stream: Any, make_raw: MakeRaw) -> None:
    config = make_stream(periods=TWO_DAYS, variables={"flow": {"maximum": 50, "sentinels": [-9]}})
    raw = make_raw([("b", "2024-01-01 03:00", -9.0), ("b", "2024-01-01 04:00", 6.0), ("b", "2024-01-02 04:00", 6.0)])
    found = clean(raw, config, config.calendar.periods()[0], RATED).filter(pl.col("flow_flag") != "missing")
    assert found["flow"].to_list() == [-9, 60, 6]
    assert found["flow_flag"].cast(pl.String).to_list() == ["sentinel", "out_of_range", "observed"]


@given(order=st.permutations(range(6)), heard=st.sets(st.sampled_from("abcd"), min_size=1))
def test_the_order_of_the_table_changes_no_byte(make_stream: Any, make_raw: MakeRaw, order: Any, heard: Any) -> None:
    config = make_stream(periods=TWO_DAYS, graph={"recipe": "gaussian"})
    period, places = config.calendar.periods()[0], np.random.default_rng(0).normal(size=(6, 2)).tolist()
    rows = [
        {**row, "x": x, "y": y}
        for row, (x, y) in zip([*RATED.rows(named=True), {"sensor_id": "d"}], places, strict=False)
    ]
    rows.append({"sensor_id": "d", "valid_from": date(2024, 1, 2), "x": 3.0, "y": 1.0, "retired": date(2024, 2, 1)})
    outputs = []
    for given_rows in (rows, [rows[place] for place in order]):
        sensors = table(*given_rows)
        stored = sensors.sort(sensors.columns)
        nodes = node_set(None, sensors=sensors, heard=frozenset(heard), period=period, lives=config.lives)
        graph = build_adjacency(nodes.ids, sensors=sensors, edges=None, config=config, period=period)
        readings = clean(make_raw(ROWS), config, period, sensors)
        outputs.append((dump_frame(stored), nodes, ADJACENCY.dump(graph), readings.rows()))
    assert outputs[0] == outputs[1]
