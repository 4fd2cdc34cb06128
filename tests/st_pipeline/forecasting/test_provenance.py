"""A cell is traced to every row that was landed for it, and to no other."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from st_pipeline.forecasting.provenance import landed_rows

STEP = timedelta(hours=1)


@pytest.fixture
def raw() -> pl.DataFrame:
    """Of sensor a: steps 0, 1, 1 again, 3 late by a minute, 4 between two steps, the day before; of b: step 0."""
    start = datetime(2024, 1, 1)
    minutes = [0, 60, 60, 180, 270, -1440, 0]
    return pl.DataFrame(
        {
            "sensor_id": ["a"] * 6 + ["b"],
            "timestamp": [start + timedelta(minutes=minute) for minute in minutes],
            "flow": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
            "file": ["one.csv", "one.csv", "two.csv", "one.csv", "one.csv", "one.csv", "one.csv"],
            "row": [1, 2, 1, 3, 4, 5, 6],
        },
        schema_overrides={"sensor_id": pl.Categorical, "timestamp": pl.Datetime("ms"), "row": pl.UInt32},
    )


def rows(raw: pl.DataFrame, sensor: str, stream: Any) -> list[tuple[Any, ...]]:
    return landed_rows(raw, sensor, stream, stream.calendar.period(0)).rows()


def test_every_row_of_a_step_is_named_and_strays_are_not(raw: pl.DataFrame, make_stream: Any) -> None:
    found = [row for row in rows(raw, "a", make_stream()) if row[0] >= 0]
    assert found == [(0, "one.csv", 1), (1, "one.csv", 2), (1, "two.csv", 1), (3, "one.csv", 3)]
    assert rows(raw, "b", make_stream()) == [(0, "one.csv", 6)]


def test_labels_are_read_on_the_streams_clock(raw: pl.DataFrame, make_stream: Any) -> None:
    """Melbourne is eleven hours ahead, and its periods begin at its own midnight."""
    assert rows(raw, "b", make_stream(timezone="Australia/Melbourne")) == [(0, "one.csv", 6)]


def test_a_sensor_without_rows_has_none(raw: pl.DataFrame, make_stream: Any) -> None:
    found = landed_rows(raw, "c", make_stream(), make_stream().calendar.period(0))
    assert found.is_empty() and found.columns == ["step", "file", "row"]
