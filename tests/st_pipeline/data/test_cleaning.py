"""Rows as landed become one row per sensor and step, whatever their order; faults are found against the truth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import FLAG, _insert, _shared, clean, distinct, flag_counts, places
from st_pipeline.data.clock import step_count
from st_pipeline.simulation import Scenario, simulate

MakeStream = Callable[..., StreamConfig]
MakeRaw = Callable[..., pl.DataFrame]
DAY = {"every": "1d", "start": "2024-01-01", "end": "2024-01-02"}
FLOW = {"minimum": 0, "maximum": 100, "sentinels": [-9], "stuck": "3h"}


def cleaned(make_stream: MakeStream, raw: pl.DataFrame, **changes: Any) -> pl.DataFrame:
    config = make_stream(**{"periods": DAY, "variables": {"flow": FLOW}, **changes})
    return clean(raw, config, config.calendar.periods()[0])


def landed(frame: pl.DataFrame) -> list[tuple[str, str, int, float, str]]:
    """Rows that hold a number: sensor, time, copy, value, flag."""
    held = frame.filter(pl.col("flow").is_not_null())
    return held.with_columns(pl.col("timestamp").dt.strftime("%H:%M"), pl.col("flow_flag").cast(pl.String)).rows()


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("day", ["2024-01-01", "2024-03-31", "2024-10-27"])
def test_every_sensor_has_every_step_of_the_period_once(
    make_stream: MakeStream, make_raw: MakeRaw, zone: str, day: str
) -> None:
    periods = {"every": "1d", "start": day, "end": date.fromordinal(date.fromisoformat(day).toordinal() + 1)}
    config = make_stream(periods=periods, timezone=zone)
    period = config.calendar.periods()[0]
    raw = make_raw([("b", f"{day} 05:00", 1.0), ("a", f"{day} 23:00", None), ("c", f"{day} 01:30", 2.0)])
    found = clean(raw, config, period)
    grid = found.filter(pl.col("copy") == 0)
    count = step_count(period, config.step)
    assert count == (24 if zone == "UTC" else {"2024-03-31": 23, "2024-10-27": 25}.get(day, 24))
    assert grid["sensor_id"].to_list() == ["a"] * count + ["b"] * count + ["c"] * count
    assert grid["timestamp"].n_unique() == count
    assert grid["timestamp"].min() == period.start
    assert grid.filter(pl.col("flow_flag") != "missing")["sensor_id"].to_list() == ["b"]


def test_columns_and_order(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    found = cleaned(make_stream, make_raw([("a", "2024-01-01 05:00", 1.0)], width=pl.Float32))
    assert found.schema == {
        "sensor_id": pl.Categorical(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "copy": pl.UInt32,
        "flow": pl.Float32,
        "flow_flag": FLAG,
    }
    assert found.equals(found.sort("sensor_id", "timestamp", "copy"))
    empty = cleaned(make_stream, make_raw([], width=pl.Float32))
    assert (len(empty), empty.schema) == (0, found.schema)


def test_flags_tell_what_is_wrong_and_leave_the_value_alone(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    values = [0.0, -9.0, 101.0, 7.5, 7.5, 7.5, None, 0.1, 0.0]
    found = cleaned(make_stream, make_raw([("a", f"2024-01-01 0{hour}:00", flow) for hour, flow in enumerate(values)]))
    flags = ["observed", "sentinel", "out_of_range", *["stuck"] * 3, "missing", "observed", "observed"]
    assert found["flow"].to_list()[:9] == values
    assert found["flow_flag"].to_list() == flags + ["missing"] * 15


@pytest.mark.parametrize(
    ("copies", "expected"),
    [
        (((5, None), (5, None)), [(0, 5, "observed"), (1, 5, "duplicate")]),
        (((5, None), (6, None)), [(0, 5, "duplicate"), (1, 6, "duplicate")]),
        (((None, None), (6, None)), [(0, 6, "observed")]),
        (((5, 3), (6, 4)), [(0, 6, "observed"), (1, 5, "duplicate")]),
        (((5, 4), (6, 3), (7, 2)), [(0, 5, "observed"), (1, 6, "duplicate"), (2, 7, "duplicate")]),
        (((5, 4), (6, 4), (9, 3)), [(0, 5, "duplicate"), (1, 6, "duplicate"), (2, 9, "duplicate")]),
        (((5, None), (6, 3)), [(0, 6, "observed"), (1, 5, "duplicate")]),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_the_row_received_last_stands_for_its_cell(
    make_stream: MakeStream,
    make_raw: MakeRaw,
    copies: tuple[tuple[float | None, int | None], ...],
    expected: list[tuple[int, float, str]],
    backwards: bool,
) -> None:
    rows = [("a", "2024-01-01 01:00", f"2024-01-01 0{hour}:00" if hour else None, flow) for flow, hour in copies]
    rows.append(("b", "2024-01-01 01:00", "2024-01-01 09:00", 1.0))
    rows.append(("b", "2024-01-01 01:00", "2024-01-01 09:00", 1.0))
    found = landed(cleaned(make_stream, make_raw(rows[:: -1 if backwards else 1], received=True)))
    assert [(copy, value, flag) for name, _, copy, value, flag in found if name == "a"] == expected


def test_without_reception_times_contradicting_rows_are_no_measurement(
    make_stream: MakeStream, make_raw: MakeRaw
) -> None:
    rows = [("a", "2024-01-01 01:00", flow) for flow in (3.0, None, 2.0)]
    rows += [("a", "2024-01-01 02:00", flow) for flow in (3.0, None, 3.0)]
    assert landed(cleaned(make_stream, make_raw(rows))) == [
        ("a", "01:00", 0, 2.0, "duplicate"),
        ("a", "01:00", 1, 3.0, "duplicate"),
        ("a", "02:00", 0, 3.0, "observed"),
        ("a", "02:00", 1, 3.0, "duplicate"),
    ]


def test_rows_that_fit_no_cell_are_kept_apart(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    rows = [
        ("a", "2024-03-31 00:30", 1.0),
        ("a", "2024-03-31 02:00", 2.0),
        ("a", "2024-03-31 03:00", 3.0),
        ("a", "2024-04-01 00:00", 4.0),
        ("a", "2024-03-31 00:30", 1.0),
        (None, "2024-03-31 04:00", 5.0),
    ]
    periods = {"every": "1d", "start": "2024-03-31", "end": "2024-04-01"}
    found = cleaned(make_stream, make_raw(rows), periods=periods, timezone="Europe/Berlin")
    assert landed(found) == [
        ("a", "23:30", 1001, 1.0, "off_grid"),
        ("a", "23:30", 1002, 1.0, "off_grid"),
        ("a", "01:00", 0, 3.0, "observed"),
        ("a", "01:00", 1001, 2.0, "off_grid"),
        ("a", "22:00", 1001, 4.0, "off_grid"),
    ]


def test_the_end_label_and_the_tolerance_of_the_source_are_followed(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    source = {"format": "parquet", "readings": "r.parquet", "columns": {"flow": "q"}}
    raw = make_raw([("a", "2024-01-01 01:00:20", 1.0), ("a", "2024-01-01 23:59:50", 2.0)])
    found = cleaned(make_stream, raw, source={**source, "interval": "end", "tolerance": "30s"})
    assert [(time, copy, value) for _, time, copy, value, _ in landed(found)] == [("00:00", 0, 1.0), ("23:00", 0, 2.0)]


hours = st.sampled_from(["00:00", "02:00", "02:30", "03:00", "03:00:00.001"])
cells = st.tuples(
    st.sampled_from(["a", "b", None]),
    hours.map("2024-10-27 {}".format),
    st.one_of(st.none(), hours.map("2024-10-27 {}".format)),
    st.sampled_from([None, 0.0, 1.0, 2.0, -9.0]),
)


@given(rows=st.lists(cells, max_size=14), seed=st.integers(0, 99), received=st.booleans())
def test_the_order_of_the_rows_changes_nothing(
    make_stream: MakeStream, make_raw: MakeRaw, rows: list[Any], seed: int, received: bool
) -> None:
    periods = {"every": "1d", "start": "2024-10-27", "end": "2024-10-28"}
    raw = make_raw(rows, received=True)
    raw = raw if received else raw.drop("received")
    one, other = (
        cleaned(make_stream, table, periods=periods, timezone="Europe/Berlin")
        for table in (raw, raw.sample(fraction=1, shuffle=True, seed=seed))
    )
    assert one.equals(other)
    assert one.select("sensor_id", "timestamp", "copy").is_unique().all()
    given_rows, kept = (
        table["flow"].drop_nulls().sort() for table in (raw.filter(pl.col("sensor_id").is_not_null()), one)
    )
    assert given_rows.equals(kept)


names = st.sampled_from(["b", "a", "", "10", "9", "B", "ä", "a b"]) | st.text(max_size=3)


@given(st.lists(names, max_size=20), st.data())
def test_ids_are_the_different_names_as_text_and_each_name_has_its_place(given_names: list[str], data: Any) -> None:
    series = pl.Series(given_names, dtype=pl.Categorical)
    ids = distinct(series)
    assert ids.dtype == pl.String
    assert ids.to_list() == sorted(set(given_names), key=str.encode)
    some = data.draw(st.lists(st.sampled_from(given_names), max_size=8)) if given_names else []
    for kind in (pl.String, pl.Categorical):
        found = places(pl.Series(some, dtype=kind), ids)
        assert found.dtype == np.int64
        assert found.tolist() == [ids.to_list().index(name) for name in some]


def test_ids_of_rows_that_were_filtered_are_those_that_are_left() -> None:
    series = pl.Series(["gone", "b", "a", "b"], dtype=pl.Categorical)
    assert distinct(series[1:]).to_list() == ["a", "b"]
    assert distinct(series[:0]).to_list() == []


@given(st.lists(st.integers(0, 9), max_size=12))
def test_rows_share_a_cell_if_another_row_has_it(cell: list[int]) -> None:
    found = _shared(np.array(cell, dtype=np.int64), 10)
    expected = [cell.count(number) > 1 for number in cell]
    assert (found is None) == (not any(expected))
    assert found is None or found.tolist() == expected


rows_beside = st.tuples(st.sampled_from(["c", "a", "b"]), st.integers(-2, 9), st.sampled_from([1, 2, 1001]))


@given(st.lists(rows_beside, max_size=12, unique=True))
def test_further_rows_lie_behind_those_of_their_time(rows: list[tuple[str, int, int]]) -> None:
    ids, times = pl.Series(["a", "b", "c"]), pl.Series(range(0, 8, 2)).cast(pl.Datetime("ms"))
    schema = {"sensor_id": pl.Categorical, "timestamp": pl.Datetime("ms"), "copy": pl.UInt32}
    every = [(name, at, 0) for name in ids for at in range(0, 8, 2)]
    grid, extra, expected = (
        pl.DataFrame(sorted(table), schema={**schema, "timestamp": pl.Int64}, orient="row").cast(schema)
        for table in (every, rows, [*every, *rows])
    )
    assert _insert(extra, grid, ids, times).equals(expected)


@given(rows=st.lists(cells, max_size=14), received=st.booleans())
def test_ids_as_categories_are_cleaned_as_ids_as_text_are(
    make_stream: MakeStream, make_raw: MakeRaw, rows: list[Any], received: bool
) -> None:
    periods = {"every": "1d", "start": "2024-10-27", "end": "2024-10-28"}
    raw = make_raw(rows, received=True)
    raw = raw if received else raw.drop("received")
    one, other = (
        cleaned(
            make_stream, raw.with_columns(pl.col("sensor_id").cast(kind)), periods=periods, timezone="Europe/Berlin"
        )
        for kind in (pl.String, pl.Categorical)
    )
    assert one.equals(other)
    assert one.schema == other.schema


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_sensors_are_in_the_order_of_their_text_whichever_was_seen_first(
    make_stream: MakeStream, make_raw: MakeRaw, kind: Any
) -> None:
    ids = [f"order-{kind}-{end}" for end in ("b", "a", "9", "10", "Z")]
    seen_first = pl.Series(ids, dtype=pl.Categorical)
    times = ["23:00", "01:00", "01:00", "01:30", "00:30", "01:30", "05:00"]
    rows = [(name, f"2024-01-01 {at}", float(at[1])) for name in ids for at in times]
    found = cleaned(make_stream, make_raw(rows).with_columns(pl.col("sensor_id").cast(kind)))
    keys = found.select(pl.col("sensor_id").cast(pl.String), "timestamp", "copy").rows()
    assert keys == sorted(keys)
    assert [key[0] for key in keys[:: len(keys) // 5]] == sorted(seen_first.to_list())
    assert found["copy"].value_counts().sort("copy").rows() == [(0, 120), (1, 5), (1001, 10), (1002, 5)]


@cache
def against_truth() -> pl.DataFrame:
    """A simulated week: fault and truth of every cell beside what cleaning says."""
    scenario = Scenario(
        periods=2, days=7, sensors=12, growth=2, stuck_rate=0.01, spike_rate=0.002, out_of_range_rate=0.002
    )
    periods = {"every": "7d", "start": "2024-01-01", "end": "2024-01-15"}
    source = {"format": "parquet", "readings": "r.parquet", "columns": {"flow": "flow", "speed": "speed"}}
    flow = {"minimum": 0, "maximum": 8000, "stuck": "2h", "stuck_at_zero": "12h", "spike": 12}
    speed = {"sentinels": [-1], "minimum": 0, "maximum": 200, "stuck": "2h"}
    config = StreamConfig.model_validate(
        {
            "name": "simulated",
            "source": source,
            "step": "5min",
            "periods": periods,
            "variables": {"flow": flow, "speed": speed},
        }
    )
    simulated = simulate(scenario).periods
    raw = pl.concat([period.readings for period in simulated]).filter(pl.col("timestamp") < datetime(2024, 1, 8))
    found = clean(raw, config, config.calendar.periods()[0]).filter(pl.col("copy") == 0)
    truth = simulated[0].truth.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))
    either = pl.any_horizontal(pl.col("flow_flag", "speed_flag").cast(pl.String) == "out_of_range")
    return truth.join(
        found.with_columns(pl.col("sensor_id").cast(pl.String)), on=["sensor_id", "timestamp"], suffix="_read"
    ).with_columns(either.alias("outside"))


@pytest.mark.parametrize(
    ("fault", "flagged", "recall", "precision"),
    [
        ("stuck", pl.col("flow_flag") == "stuck", 0.99, 0.95),
        ("spike", pl.col("flow_flag") == "spike", 0.95, 0.9),
        ("out_of_range", pl.col("outside"), 0.99, 0.99),
        ("outage", pl.col("flow_flag") == "missing", 1, 1),
    ],
)
def test_simulated_faults_are_found(fault: str, flagged: pl.Expr, recall: float, precision: float) -> None:
    table = against_truth()
    is_fault, hits = (table.select(cells).to_series() for cells in (pl.col("fault") == fault, flagged))
    assert is_fault.sum() > 20
    assert (is_fault & hits).sum() >= recall * is_fault.sum()
    assert (is_fault & hits).sum() >= precision * hits.sum()


def test_what_is_observed_of_a_simulated_week_is_the_truth() -> None:
    table = against_truth()
    for fault in ("none", "duplicate", "late"):
        good = table.filter(fault=fault, flow_flag="observed")
        assert good["flow"].equals(good["flow_read"].alias("flow"))
        assert len(good) >= 0.999 * len(table.filter(fault=fault))
    assert table.filter(fault="none", flow=0)["flow_flag"].unique().to_list() == ["observed"]


def test_flag_counts_cover_every_row(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    found = cleaned(make_stream, make_raw([("a", "2024-01-01 01:00", 1.0), ("a", "2024-01-01 01:30", 2.0)]))
    assert flag_counts(found, ("flow",)).rows() == [
        ("flow", "missing", 23, 0.92),
        ("flow", "observed", 1, 0.04),
        ("flow", "off_grid", 1, 0.04),
    ]
