"""The regular array of a period: values and flags by step, node and channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import clean
from st_pipeline.data.quality import FLAGS
from st_pipeline.data.tensors import TENSOR, SeriesTensor, build_tensor
from st_pipeline.errors import InputError

SOURCE = {"format": "parquet", "readings": "r.parquet", "columns": {"flow": "q", "speed": "v"}}
MISSING, OBSERVED = FLAGS.index("missing"), FLAGS.index("observed")
ROWS = [
    ("a", 3, 1.5, 50.0),
    ("a", 4, 0.0, -1.0),
    ("b", 4, -5.0, None),
    ("b", 5, np.inf, 60.0),
    ("b", 6, 9.0, 61.0),
    ("b", 6, 9.5, 61.0),
    ("c", 9, 1.0, 1.0),
]


MakeReadings = Callable[..., tuple[pl.DataFrame, StreamConfig, str]]


@pytest.fixture(scope="session")
def make_readings(make_stream: Callable[..., StreamConfig]) -> MakeReadings:
    """`make_readings(rows, **changes)`: clean readings of a day, their configuration and the key of the day."""

    def make(rows: list[Any], **changes: Any) -> tuple[pl.DataFrame, StreamConfig, str]:
        periods = {"every": "1d", "start": "2024-01-01", "end": "2024-01-02"}
        variables = {"flow": {"minimum": 0}, "speed": {"sentinels": [-1]}}
        plain = {"source": SOURCE, "periods": periods, "variables": variables, "inputs": ["flow", "speed"]}
        config = make_stream(**{**plain, **changes})
        period = config.calendar.periods()[0]
        schema = {"sensor_id": pl.String, "hour": pl.Int64, "flow": pl.Float64, "speed": pl.Float64}
        raw = pl.DataFrame(rows, schema=schema, orient="row")
        at = pl.datetime(2024, 1, 1, time_unit="ms", time_zone="UTC") + pl.duration(hours=pl.col("hour"))
        return clean(raw.with_columns(at.alias("timestamp")).drop("hour"), config, period), config, period.key

    return make


@pytest.fixture
def build(make_readings: MakeReadings) -> Callable[..., SeriesTensor]:
    def make(rows: list[Any], ids: str, **changes: Any) -> SeriesTensor:
        readings, config, period = make_readings(rows, **changes)
        return build_tensor(readings, tuple(ids), config, period)

    return make


def test_cells_lie_at_their_step_node_and_channel(build: Callable[..., SeriesTensor]) -> None:
    tensor = build(ROWS, "ba")
    assert tensor.values.shape == tensor.flags.shape == (4, 2, 2)
    assert tensor.values[..., 0].tolist() == [[0, 1.5], [-5, 0], [0, 0], [9, 0]]
    assert tensor.values[..., 1].tolist() == [[0, 50], [0, 0], [60, 0], [61, 0]]
    names = [[FLAGS[flag] for flag in row] for row in tensor.flags[..., 0]]
    assert names == [
        ["missing", "observed"],
        ["out_of_range", "observed"],
        ["out_of_range", "missing"],
        ["duplicate", "missing"],
    ]
    assert (tensor.values.dtype, tensor.flags.dtype, tensor.times.dtype) == (np.float32, np.uint8, np.int64)
    assert (tensor.sensor_ids, tensor.variables, tensor.period) == (("b", "a"), ("flow", "speed"), "2024-01-01")


def test_a_true_zero_is_observed_and_what_was_not_landed_is_not(build: Callable[..., SeriesTensor]) -> None:
    tensor = build(ROWS, "ab")
    assert tensor.observed[..., 0].tolist() == [[True, False], [True, False], [False, False], [False, False]]
    assert tensor.landed[..., 0].tolist() == [[True, False], [True, True], [False, True], [False, True]]
    assert tensor.landed[..., 1].tolist() == [[True, False], [False, False], [False, True], [False, True]]
    assert not tensor.values[~tensor.landed].any()
    assert np.isfinite(tensor.values).all()


def test_steps_run_from_the_first_landed_row_to_the_last(build: Callable[..., SeriesTensor]) -> None:
    day = 1_704_067_200
    assert (build(ROWS, "ab").times - day).tolist() == [3600 * hour for hour in (3, 4, 5, 6)]
    assert (build(ROWS, "abc").times - day).tolist() == [3600 * hour for hour in range(3, 10)]


def test_a_node_that_was_not_heard_is_missing(build: Callable[..., SeriesTensor]) -> None:
    tensor = build(ROWS, "azb")
    assert (tensor.flags[:, 1] == MISSING).all()
    assert not tensor.values[:, 1].any()
    assert np.array_equal(tensor.values[:, [0, 2]], build(ROWS, "ab").values)


cells = st.tuples(
    st.sampled_from("abcd"),
    st.integers(0, 25),  # the last two lie behind the period
    st.sampled_from([None, -5.0, 0.0, 1.5, 1e300]),
    st.sampled_from([None, -1.0, 50.0]),
)


@given(st.lists(cells, min_size=1, max_size=30), st.permutations("abcdz"), st.integers(1, 5))
def test_the_array_is_that_of_a_loop_over_the_readings(
    make_readings: MakeReadings, rows: list[Any], order: list[str], count: int
) -> None:
    readings, config, period = make_readings(rows)
    ids = tuple(order[:count])
    first, length = int(readings["timestamp"].min().timestamp()) // 86400 * 86400, 24
    values, flags = np.zeros((length, count, 2), dtype=np.float32), np.full((length, count, 2), MISSING, dtype=np.uint8)
    for row in readings.filter(pl.col("copy") == 0).rows(named=True):
        if row["sensor_id"] not in ids:
            continue
        cell = (int(row["timestamp"].timestamp()) - first) // 3600, ids.index(row["sensor_id"])
        for channel, name in enumerate(("flow", "speed")):
            flag, value = row[f"{name}_flag"], row[name]
            flags[(*cell, channel)] = FLAGS.index(flag)
            good = value is not None and flag not in ("missing", "sentinel") and abs(value) < 1e38
            values[(*cell, channel)] = value if good else 0
    landed = np.flatnonzero((flags != MISSING).any(axis=(1, 2)))
    if not len(landed):
        with pytest.raises(InputError, match="nothing was measured"):
            build_tensor(readings, ids, config, period)
        return
    tensor, span = build_tensor(readings, ids, config, period), slice(landed[0], landed[-1] + 1)
    assert np.array_equal(tensor.values, values[span])
    assert np.array_equal(tensor.flags, flags[span])
    assert tensor.times.tolist() == [first + 3600 * step for step in range(span.start, span.stop)]


def test_the_target_is_channel_0(build: Callable[..., SeriesTensor]) -> None:
    tensor = build(ROWS, "ab", target="speed", inputs=["flow"])
    assert tensor.variables == ("speed", "flow")
    assert np.array_equal(tensor.values, build(ROWS, "ab").values[..., ::-1])


def test_a_number_too_large_for_the_array_is_not_observed(build: Callable[..., SeriesTensor]) -> None:
    tensor = build([("a", 1, 1e300, 1.0), ("a", 2, 1.0, 1.0)], "a")
    assert tensor.observed[..., 0].tolist() == [[False], [True]]
    assert np.isfinite(tensor.values).all()


@pytest.mark.parametrize(("rows", "ids"), [(ROWS, ""), (ROWS, "z"), ([("a", 1, None, None)], "a")])
def test_a_period_without_a_landed_row_is_refused(build: Callable[..., SeriesTensor], rows: Any, ids: str) -> None:
    with pytest.raises(InputError, match="nothing was measured in period 2024-01-01"):
        build(rows, ids)


def test_a_tensor_survives_storage_and_its_digest_is_that_of_its_content(build: Callable[..., SeriesTensor]) -> None:
    tensor = build(ROWS, "abc", timezone="UTC")
    payload = TENSOR.dump(tensor)
    again = TENSOR.load(payload)
    assert TENSOR.dump(again) == payload
    assert again.digest == tensor.digest == build(ROWS[::-1], "abc").digest
    flags = tensor.flags.copy()
    flags[0, 0, 0] = OBSERVED + 1
    others = [
        replace(tensor, flags=flags),
        replace(tensor, values=tensor.values + 1),
        replace(tensor, times=tensor.times + 1),
        replace(tensor, period="2024-01-02"),
        replace(tensor, timezone="Europe/Berlin"),
        build(ROWS, "acb"),
    ]
    assert len({tensor.digest, *(other.digest for other in others)}) == 7
