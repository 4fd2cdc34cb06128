"""Small tables say what the large ones hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import FLAG, clean
from st_pipeline.data.summaries import network_summary, raw_summary, sensor_summary, until_landed

MakeStream = Callable[..., StreamConfig]
MakeTable = Callable[..., pl.DataFrame]
DAY = {"every": "1d", "start": "2024-01-01", "end": "2024-01-02"}
SOURCE = {"format": "parquet", "readings": "r.parquet", "columns": {"flow": "q"}}


@pytest.fixture
def readings(make_stream: MakeStream, make_raw: MakeTable) -> tuple[pl.DataFrame, StreamConfig]:
    """Sensor a: 4 observed, 2 out of range, 3 stuck, a sentinel, 14 missing and 2 extra rows; b: a row off the grid."""
    flows = [0.0, 1.0, 2.0, 3.0, -5.0, 200.0, 7.0, 7.0, 7.0, -1.0]
    rows = [("a", f"2024-01-01 0{hour}:00", flow) for hour, flow in enumerate(flows)]
    rows += [("a", "2024-01-01 03:00", 3.0), ("a", "2024-01-01 03:30", 3.0), ("b", "2024-01-01 03:30", 3.0)]
    rules = {"minimum": 0, "maximum": 100, "stuck": "3h", "sentinels": [-1]}
    config = make_stream(periods=DAY, variables={"flow": rules})
    return clean(make_raw(rows), config, config.calendar.periods()[0]), config


def test_a_sensor_s_shares_count_cells_and_leave_extra_rows_out(
    readings: tuple[pl.DataFrame, StreamConfig], make_sensors: MakeTable
) -> None:
    frame, config = readings
    found = sensor_summary(frame, make_sensors({"sensor_id": "a"}), config).rows(named=True)
    assert found == [
        {
            "sensor_id": "a",
            "variable": "flow",
            "cells": 24,
            "missing": pytest.approx(14 / 24),
            "faulty": pytest.approx(5 / 10),
            "out_of_range": pytest.approx(2 / 10),
            "duplicates": 2,
            "lowest": 0.0,
            "highest": 3.0,
            "known": True,
        },
        {
            "sensor_id": "b",
            "variable": "flow",
            "cells": 24,
            "missing": 1.0,
            "faulty": 0.0,
            "out_of_range": 0.0,
            "duplicates": 1,
            "lowest": None,
            "highest": None,
            "known": False,
        },
    ]


def test_without_a_sensor_table_every_sensor_is_known(
    readings: tuple[pl.DataFrame, StreamConfig], make_sensors: MakeTable
) -> None:
    frame, config = readings
    assert sensor_summary(frame, make_sensors(), config)["known"].to_list() == [True, True]


def test_the_network_is_the_sum_of_its_sensors(readings: tuple[pl.DataFrame, StreamConfig]) -> None:
    frame, config = readings
    assert network_summary(frame, config).row(0, named=True) == {
        "sensors": 2,
        "rows": 48 + 3,
        "unique": True,
        "missing": pytest.approx(38 / 48),
        "faulty": pytest.approx(5 / 10),
        "out_of_range": pytest.approx(2 / 10),
    }
    assert not network_summary(pl.concat([frame, frame.head(1)]), config)["unique"].item()


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
@pytest.mark.parametrize("ordered", [True, False])
@given(keys=st.lists(st.tuples(st.sampled_from("ba"), st.integers(0, 2), st.sampled_from([0, 1, 1001])), max_size=8))
def test_rows_are_unique_if_none_is_there_twice_whatever_their_order(
    make_stream: MakeStream, kind: Any, ordered: bool, keys: list[tuple[str, int, int]]
) -> None:
    rows = sorted(keys) if ordered else keys
    schema = {"sensor_id": kind, "timestamp": pl.Int64, "copy": pl.UInt32}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.from_epoch("timestamp", "s"), pl.lit(1.0).alias("flow"), pl.lit("observed").cast(FLAG).alias("flow_flag")
    )
    assert network_summary(frame, make_stream(periods=DAY))["unique"].item() == (len(set(keys)) == len(keys))


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_repeated_row_is_seen_wherever_it_lies(readings: tuple[pl.DataFrame, StreamConfig], shuffled: bool) -> None:
    frame, config = readings

    def unique(table: pl.DataFrame) -> bool:
        table = table.sample(fraction=1, shuffle=True, seed=0) if shuffled else table
        return bool(network_summary(table, config)["unique"].item())

    assert unique(frame)
    for row in (0, 3, len(frame) - 1):
        assert not unique(pl.concat([frame[: row + 1], frame[row : row + 1], frame[row + 1 :]]))


def test_an_empty_table_has_a_summary(readings: tuple[pl.DataFrame, StreamConfig], make_sensors: MakeTable) -> None:
    frame, config = readings
    assert network_summary(frame.head(0), config)["sensors"].item() == 0
    assert len(sensor_summary(frame.head(0), make_sensors(), config)) == 0


def test_variables_have_rows_of_their_own(make_stream: MakeStream, make_sensors: MakeTable) -> None:
    config = make_stream(periods=DAY, source={**SOURCE, "columns": {"flow": "q", "speed": "v"}}, variables={})
    rows = {"sensor_id": ["a", "a"], "hour": [1, 2], "flow": [1.0, None], "speed": [None, None]}
    at = pl.datetime(2024, 1, 1, pl.col("hour"), time_unit="ms").alias("timestamp")
    raw = pl.DataFrame(rows, schema_overrides={"speed": pl.Float64}).with_columns(at).drop("hour")
    found = sensor_summary(clean(raw, config, config.calendar.periods()[0]), make_sensors(), config)
    assert found.select("variable", "missing", "highest").rows() == [("flow", 23 / 24, 1.0), ("speed", 1.0, None)]


def test_raw_rows_are_counted_by_sensor(make_stream: MakeStream, make_raw: MakeTable) -> None:
    rows = [
        ("a", "2024-01-01 00:00", 1.0),
        ("a", "2024-01-01 00:00", 2.0),
        ("a", "2024-01-01 01:00", None),
        ("a", "2024-01-01 23:59", None),
        (None, "2024-01-01 05:00", 1.0),
        ("b", "2023-12-31 23:59", 1.0),
        ("b", "2024-01-02 00:00", 1.0),
    ]
    config = make_stream(periods=DAY)
    found = raw_summary(make_raw(rows), config, config.calendar.periods()[0])
    numbers = found.select("sensor_id", "rows", "repeated", "empty", "outside").rows()
    assert numbers == [(None, 1, 0, 0, 0), ("a", 4, 0.25, 0.5, 0), ("b", 2, 0, 0, 2)]
    assert found.filter(sensor_id="a").select(pl.col("first", "last").dt.strftime("%H:%M")).row(0) == ("00:00", "23:59")
    assert len(raw_summary(make_raw([]), config, config.calendar.periods()[0])) == 0


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("interval", ["start", "end"])
@pytest.mark.parametrize("zoned", [True, False])
def test_the_period_is_one_of_the_local_clock(
    make_stream: MakeStream, make_raw: MakeTable, zone: str, interval: str, zoned: bool
) -> None:
    config = make_stream(periods=DAY, timezone=zone, source={**SOURCE, "interval": interval})
    period = config.calendar.periods()[0]
    late = config.step if interval == "end" else 0 * config.step
    times: list[Any] = [period.start - config.step, period.start, period.end - config.step, period.end]
    times = [at + late if zoned else (at + late).replace(tzinfo=None) for at in times]
    found = raw_summary(make_raw([("a", at, 0.0) for at in times], zoned=zoned), config, period)
    assert found["outside"].item() == 2


def test_a_running_period_is_judged_up_to_what_has_landed(make_stream: MakeStream, make_raw: MakeTable) -> None:
    config = make_stream(periods=DAY)
    rows = [(name, f"2024-01-01 0{hour}:00", 1.0) for name in "ab" for hour in range(3) if (name, hour) != ("b", 1)]
    frame = clean(make_raw(rows), config, config.calendar.period(0))
    missing = [network_summary(one, config)["missing"].item() for one in (frame, until_landed(frame, config))]
    assert missing == [pytest.approx(43 / 48), pytest.approx(1 / 6)]
    assert len(until_landed(frame.clear(), config)) == 0
