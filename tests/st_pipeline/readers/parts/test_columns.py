"""Columns as readings need them: ids as text, numbers as floats, times as instants or labels."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.readers.parts.columns import NAMES, TimeFormat, is_zoned, names, number, text, time

MOMENT = datetime(2024, 1, 31, 13, 5)


def read(expression: pl.Expr, values: list[Any], dtype: Any = None) -> pl.Series:
    return pl.DataFrame({"c": pl.Series(values, dtype=dtype)}).select(expression)["c"]


def times(labels: list[Any], style: TimeFormat | None = None, dtype: Any = None) -> pl.Series:
    series = pl.Series("c", labels, dtype=dtype)
    style = style or TimeFormat()
    zoned = series.dtype == pl.String and is_zoned(labels[0], style)
    return pl.DataFrame({"c": series}).select(time("c", series.dtype, style, zoned=zoned))["c"]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["007", " 8 ", "", "  ", None, "a/b"], pl.String, ["007", "8", None, None, None, "a/b"]),
        ([7, None], pl.Int64, ["7", None]),
        ([2**64 - 1], pl.UInt64, ["18446744073709551615"]),
        ([7.0, 7.5, float("nan"), None, -0.0], pl.Float64, ["7", "7.5", None, None, "0"]),
        ([1e300, float("inf")], pl.Float64, ["1e+300", "inf"]),
        ([7.0], pl.Float32, ["7"]),
        (["a", "b"], pl.Categorical, ["a", "b"]),
    ],
)
def test_ids_are_text(values: list[Any], dtype: Any, expected: list[str | None]) -> None:
    assert read(text("c", pl.Series([], dtype=dtype).dtype), values, dtype).to_list() == expected


labels = (
    st.none() | st.sampled_from(["", " ", "a", " a", "a ", "\u00a0a\t", "b", "007", "7.0", "ü"]) | st.text(max_size=3)
)
ids = st.one_of(
    st.tuples(st.sampled_from([pl.String, pl.Categorical]), st.lists(labels, max_size=12)),
    st.tuples(st.just(pl.Int64), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=6)),
    st.tuples(st.just(pl.UInt8), st.lists(st.none() | st.integers(0, 255), max_size=6)),
    st.tuples(st.just(pl.Float64), st.lists(st.none() | st.floats() | st.integers(-9, 9).map(float), max_size=6)),
)


@given(ids)
def test_names_are_the_text_of_every_row_as_categories(given_ids: tuple[Any, list[Any]]) -> None:
    dtype, values = given_ids
    series = pl.Series("c", values, dtype=dtype)
    found = names(series)
    assert (found.name, found.dtype) == ("c", NAMES)
    assert found.cast(pl.String).to_list() == read(text("c", series.dtype), values, dtype).to_list()


def test_names_of_rows_that_were_filtered_are_those_of_the_rows_that_are_left() -> None:
    series = pl.Series("c", ["unused", " b", "a", None, "b", " "], dtype=pl.Categorical)
    assert names(series[1:]).to_list() == ["b", "a", None, "b", None]
    assert names(series[[4, 2]]).to_list() == ["b", "a"]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (
            ["1", " 2.5 ", "-1e3", "", "x", "1,5", None, "NaN"],
            pl.String,
            [1.0, 2.5, -1000.0, None, None, None, None, None],
        ),
        ([1, None], pl.Int8, [1.0, None]),
        ([0.0, float("nan"), None], pl.Float64, [0.0, None, None]),
        ([Decimal("1.25")], pl.Decimal(10, 2), [1.25]),
        ([True, False], pl.Boolean, [1.0, 0.0]),
        (["1.5", "x"], pl.Categorical, [1.5, None]),
        ([MOMENT], pl.Datetime, [None]),
        ([date(2024, 1, 1)], pl.Date, [None]),
    ],
)
def test_numbers(values: list[Any], dtype: Any, expected: list[float | None]) -> None:
    assert read(number("c", pl.Series([], dtype=dtype).dtype), values, dtype).to_list() == expected


def test_a_decimal_comma_and_dots_between_thousands() -> None:
    values = read(number("c", pl.String(), decimal_comma=True), ["1.234,5", "-0,25", "12", "1,2,3"])
    assert values.to_list() == [1234.5, -0.25, 12.0, None]


def test_floats_keep_their_width_and_their_bits() -> None:
    values = [0.1, 1e-45, 3.4e38]
    found = read(number("c", pl.Float32()), values, pl.Float32)
    assert found.dtype == pl.Float32
    assert found.to_list() == pl.Series(values, dtype=pl.Float32).to_list()


@pytest.mark.parametrize(
    ("label", "seconds"),
    [
        ("2024-01-31 13:05", 0),
        ("2024-01-31T13:05", 0),
        ("2024-01-31t13:05:07", 7),
        ("2024-01-31 13:05:07", 7),
        (" 2024-01-31 13:05:07 ", 7),
        ("2024-01-31T13:05:07.25", 7.25),
        ("2024-01-31T13:05:07,25", 7.25),
        ("2024-01-31 13:05:07.123456", 7.123),
    ],
)
def test_labels_without_an_offset(label: str, seconds: float) -> None:
    found = times([label])
    assert found.dtype == pl.Datetime("ms")
    assert found[0] == MOMENT + timedelta(seconds=seconds)


@pytest.mark.parametrize("offset", ["Z", "z", "+00:00", "+0000", "+00", " UTC", " GMT", " +00:00", " -0000", "-00"])
@pytest.mark.parametrize("stem", ["2024-01-31 13:05", "2024-01-31T13:05:00", "2024-01-31T13:05:00.000"])
def test_labels_in_utc(stem: str, offset: str) -> None:
    found = times([stem + offset])
    assert found.dtype == pl.Datetime("ms", "UTC")
    assert found[0] == MOMENT.replace(tzinfo=UTC)


@given(
    moments=st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=5),
    minutes=st.lists(st.integers(-14 * 60, 14 * 60), min_size=5, max_size=5),
)
def test_offsets_may_be_mixed(moments: list[datetime], minutes: list[int]) -> None:
    zoned = [
        moment.replace(tzinfo=timezone(timedelta(minutes=offset)), microsecond=0)
        for moment, offset in zip(moments, minutes, strict=False)
    ]
    assert times([moment.isoformat() for moment in zoned]).to_list() == zoned


def test_a_date_alone_is_its_midnight() -> None:
    assert times(["2024-01-31"]).to_list() == [datetime(2024, 1, 31)]


@pytest.mark.parametrize(
    "label",
    [
        "31.01.2024 13:05",
        "2024-02-30 00:00",
        "2024-01-31 25:00",
        "2024-01-31 13:60",
        "1706706300",
        "now",
        "2024-01-31 1pm",
    ],
)
def test_what_is_no_time_is_null(label: str) -> None:
    assert times([label]).to_list() == [None]


def test_a_label_with_an_offset_among_labels_without_is_null_and_the_reverse() -> None:
    assert times(["2024-01-31 13:05", "2024-01-31 13:05Z"]).null_count() == 1
    assert times(["2024-01-31 13:05Z", "2024-01-31 13:05"]).null_count() == 1


@pytest.mark.parametrize(
    ("labels", "style", "expected"),
    [
        (["31.01.2024 13:05"], TimeFormat("%d.%m.%Y %H:%M"), MOMENT),
        (["31.01.2024"], TimeFormat("%d.%m.%Y"), datetime(2024, 1, 31)),
        (["01/31/2024 01:05 PM"], TimeFormat("%m/%d/%Y %I:%M %p"), MOMENT),
        (["2024-01-31 14:05 +0100"], TimeFormat("%Y-%m-%d %H:%M %z"), MOMENT.replace(tzinfo=UTC)),
        (["1706706300"], TimeFormat(unit="s"), MOMENT.replace(tzinfo=UTC)),
        ([1706706300], TimeFormat(unit="s"), MOMENT.replace(tzinfo=UTC)),
        ([1706706300.0], TimeFormat(unit="s"), MOMENT.replace(tzinfo=UTC)),
        ([1706706300000], TimeFormat(unit="ms"), MOMENT.replace(tzinfo=UTC)),
        ([1706706300000000], TimeFormat(unit="us"), MOMENT.replace(tzinfo=UTC)),
        (["soon"], TimeFormat(unit="s"), None),
        (["31.01.2024"], TimeFormat("%Y-%m-%d"), None),
    ],
)
def test_other_ways_to_write_a_time(labels: list[Any], style: TimeFormat, expected: datetime | None) -> None:
    assert times(labels, style).to_list() == [expected]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([MOMENT], pl.Datetime("us"), MOMENT),
        ([MOMENT], pl.Datetime("ns"), MOMENT),
        ([MOMENT], pl.Datetime("us", "Europe/Berlin"), datetime(2024, 1, 31, 12, 5, tzinfo=UTC)),
        ([date(2024, 1, 31)], pl.Date, datetime(2024, 1, 31)),
        (["2024-01-31 13:05"], pl.Categorical, MOMENT),
        ([5], pl.Int64, None),
        ([timedelta(1)], pl.Duration, None),
    ],
)
def test_typed_times(values: list[Any], dtype: Any, expected: datetime | None) -> None:
    series = (
        pl.Series(values, dtype=pl.Datetime("us")).dt.replace_time_zone("Europe/Berlin")
        if getattr(dtype, "time_zone", None)
        else pl.Series(values, dtype=dtype)
    )
    assert pl.DataFrame({"c": series}).select(time("c", series.dtype, TimeFormat()))["c"].to_list() == [expected]
