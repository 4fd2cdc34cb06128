"""Who gets a forecast, by what is known when it is issued."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.forecasting.alive import alive, declared, missing_rows
from st_pipeline.forecasting.issue import Issue
from st_pipeline.forecasting.series import join


def lives(town: Any, key: str, sensors: pl.DataFrame) -> dict[str, list[int]]:
    """Hours of the period after which each sensor is there."""
    sources = town.sources(key)
    names = {*declared(sensors), *(sources.before.ids if sources.before else ())}
    series = join(sources.config, sources.tensors, sources.period, sensors=names)
    found = alive(series, series.slots(), sensors=sensors, before=sources.before)
    return {name: np.flatnonzero(found[:, row]).tolist() for row, name in enumerate(series.ids)}


def test_a_sensor_without_dates_is_there_from_its_first_reading(town: Any, sensor_table: Any) -> None:
    tensor = town.tensors[town.keys[1]]
    found = lives(town, town.keys[1], sensor_table("abcdefgh"))
    hours = len(tensor.times)
    for name in ("f", "g"):
        first = int(tensor.observed[:, tensor.sensor_ids.index(name), 0].argmax())
        assert found[name] == list(range(first, hours))
    assert all(len(found[name]) == hours for name in town.nodes[town.keys[0]].ids)


def test_dates_of_the_table_count_from_the_day_itself(town: Any, sensor_table: Any) -> None:
    start = town.sources(town.keys[1]).period.start.date()
    day = date.fromordinal(start.toordinal() + 5)
    sensors = sensor_table("abcdefgz", installed={"z": day}, retired={"a": day})
    found = lives(town, town.keys[1], sensors)
    midnight = 5 * 24 - 1  # the forecast that is issued then has read the hour before
    assert found["z"][0] == midnight and len(found["z"]) == 21 * 24 - midnight
    assert found["a"] == list(range(midnight))


def test_the_row_of_the_table_that_is_valid_decides(town: Any, sensor_table: Any) -> None:
    start = town.sources(town.keys[1]).period.start.date()
    day = date.fromordinal(start.toordinal() + 5)
    retired = sensor_table("a", retired={"a": start})
    back = sensor_table("a", valid_from={"a": day})
    found = lives(town, town.keys[1], pl.concat([retired, back]))
    assert found["a"] == list(range(5 * 24 - 1, 21 * 24))


def test_missing_rows_are_named(town: Any) -> None:
    sources = town.sources(town.keys[1])
    rows = Issue.of(sources).rows()
    facts = (sources.config, sources.period)
    more = {"sensors": sources.sensors, "before": sources.before}
    tensor = sources.tensors[sources.period.key]
    assert missing_rows(*facts, rows, tensor, **more).is_empty()
    gap = rows.filter((pl.col("sensor_id") != "a") | (pl.col("horizon") != 2))
    found = missing_rows(*facts, gap, tensor, **more)
    assert {*found["sensor_id"]} == {"a"} and len(found) == rows["issued_at"].n_unique()


@pytest.mark.parametrize("name", ["values", "flags"])
def test_joined_readings_lie_on_their_steps(town: Any, name: str) -> None:
    sources = town.sources(town.keys[2])
    series = join(sources.config, sources.tensors, sources.period)
    for tensor in sources.tensors.values():
        at = np.searchsorted(series.tensor.times, tensor.times)
        there = tensor.times >= series.tensor.times[0]
        rows = series.rows(tensor.sensor_ids)
        joined = getattr(series.tensor, name)[at[there]][:, rows]
        assert np.array_equal(joined, getattr(tensor, name)[there])
    assert (np.diff(series.tensor.times) == 3600).all()
    assert series.landed == len(series.tensor.times) - 1 - sources.config.horizon
    assert series.tensor.observed[series.landed + 1 :].sum() == 0
