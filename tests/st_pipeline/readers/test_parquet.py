"""Long tables in Parquet: typed columns of all sorts give the same readings; damage gives a sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from st_pipeline.errors import InputError
from st_pipeline.readers.base import Reader
from st_pipeline.readers.parts import parquet_table

MakeReader = Callable[..., Reader]
ONE, TWO = datetime(2024, 1, 1), datetime(2024, 2, 1)
SOURCE = {"format": "parquet", "readings": "readings.parquet"}


def packed(table: pa.Table | dict[str, pa.Array], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer, **options)
    return buffer.getvalue()


def columns(**changes: pa.Array) -> bytes:
    """Two rows, one in January and one in February."""
    plain = {"id": pa.array(["007", "b"]), "time": pa.array([ONE, TWO]), "q": pa.array([1.5, 2.5])}
    return packed(plain | changes)


def january(reader: Reader) -> pl.DataFrame:
    return reader.readings(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]


def of(make_reader: MakeReader, content: bytes, **source: Any) -> pl.DataFrame:
    return january(make_reader(SOURCE | source, {"readings.parquet": content}))


def refused(make_reader: MakeReader, content: bytes, **source: Any) -> str:
    with pytest.raises(InputError) as caught:
        of(make_reader, content, **source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array(["007", "b"]), "007"),
        (pa.array(["007", "b"], pa.large_string()), "007"),
        (pa.array(["007", "b"], pa.string_view()), "007"),
        (pa.array([b"007", b"b"]), "007"),
        (pa.array(["007", "b"]).dictionary_encode(), "007"),
        (pa.array([7, 8]).dictionary_encode(), "7"),
        (pa.array([7, 8], pa.int8()), "7"),
        (pa.array([2**63, 8], pa.uint64()), "9223372036854775808"),
        (pa.array([7.0, 8.5]), "7"),
        (pa.array([7.5, 8.5]), "7.5"),
        (pa.array([" 007 ", "b"]), "007"),
        (pa.array([None, "b"]), None),
        (pa.array([float("nan"), 8.0]), None),
        (pa.array(["  ", "b"]), None),
    ],
)
def test_ids_become_text(make_reader: MakeReader, ids: pa.Array, expected: str | None) -> None:
    assert of(make_reader, columns(id=ids)).select("sensor_id", "row").rows() == [(expected, 1)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([ONE, TWO], pa.timestamp("s")), ONE),
        (pa.array([ONE, TWO], pa.timestamp("ms")), ONE),
        (pa.array([ONE, TWO], pa.timestamp("ns")), ONE),
        (pa.array([ONE, TWO], pa.timestamp("us", "UTC")), ONE.replace(tzinfo=UTC)),
        (pa.array([ONE, TWO], pa.timestamp("us", "Europe/Berlin")), ONE.replace(tzinfo=UTC)),
        (pa.array([ONE, TWO], pa.timestamp("us", "+01:00")), ONE.replace(tzinfo=UTC)),
        (pa.array([ONE.date(), TWO.date()]), ONE),
        (pa.array([ONE.date(), TWO.date()], pa.date64()), ONE),
        (pa.array(["2024-01-01", "2024-02-01"]), ONE),
        (pa.array(["2024-01-01T00:00Z", "2024-02-01T00:00Z"]).dictionary_encode(), ONE.replace(tzinfo=UTC)),
    ],
)
def test_times_become_instants_or_labels(make_reader: MakeReader, times: pa.Array, expected: datetime) -> None:
    found = of(make_reader, columns(time=times))
    assert found["timestamp"].to_list() == [expected]
    assert found["timestamp"].dtype.time_unit == "ms"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1.5, 2.5], pa.float64()), pl.Float64, 1.5),
        (pa.array([0.1, 2.5], pa.float32()), pl.Float32, pytest.approx(0.1)),
        (pa.array([1.5, 2.5], pa.float16()), pl.Float32, 1.5),
        (pa.array([1, 2], pa.int64()), pl.Float64, 1.0),
        (pa.array([1, 2], pa.uint8()), pl.Float64, 1.0),
        (pa.array([Decimal("1.25"), Decimal("2.5")]), pl.Float64, 1.25),
        (pa.array(["1.5", "2.5"]), pl.Float64, 1.5),
        (pa.array(["1.5", "2.5"]).dictionary_encode(), pl.Float64, 1.5),
        (pa.array([float("nan"), 2.5]), pl.Float64, None),
        (pa.array([None, 2.5]), pl.Float64, None),
        (pa.array([None, None], pa.null()), pl.Float64, None),
        (pa.array(["", "2.5"]), pl.Float64, None),
        (pa.array([0.0, 2.5]), pl.Float64, 0.0),
    ],
)
def test_values_become_floats(make_reader: MakeReader, values: pa.Array, kind: Any, expected: Any) -> None:
    found = of(make_reader, columns(q=values))
    assert found["flow"].to_list() == [expected]
    assert found["flow"].dtype == kind


def test_rows_are_numbered_through_row_groups_and_parts(
    make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_table, "ROWS", 4)
    times = [ONE if row % 3 else TWO for row in range(1, 26)]
    table = {"id": pa.array(["a"] * 25), "time": pa.array(times), "q": pa.array([float(row) for row in range(1, 26)])}
    found = of(make_reader, packed(table, row_group_size=10))
    assert found["row"].to_list() == found["flow"].to_list() == [row for row in range(1, 26) if row % 3]


def hourly(start: datetime, count: int) -> dict[str, pa.Array]:
    times = [start + timedelta(hours=hour) for hour in range(count)]
    return {"id": pa.array(["a"] * count), "time": pa.array(times), "q": pa.array([float(row) for row in range(count)])}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the row groups that are decoded."""
    groups: list[int] = []
    read = pq.ParquetFile.iter_batches

    def watched(file: pq.ParquetFile, *arguments: Any, row_groups: list[int], **options: Any) -> Any:
        groups.extend(row_groups)
        return read(file, *arguments, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    return groups


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms", "UTC")])
def test_row_groups_of_other_periods_are_not_decoded_and_rows_keep_their_numbers(
    make_reader: MakeReader, decoded: list[int], kind: pa.DataType
) -> None:
    table = hourly(datetime(2023, 12, 31), 24 * 34)
    content = packed(table | {"time": table["time"].cast(kind)}, row_group_size=24)
    found = of(make_reader, content)
    assert decoded == list(range(1, 32))
    assert found["row"].to_list() == list(range(25, 25 + 31 * 24))
    assert found["flow"].to_list() == list(range(24, 24 + 31 * 24))


def test_damage_in_another_period_is_told_when_that_period_is_read(make_reader: MakeReader) -> None:
    table = hourly(datetime(2024, 1, 31), 48)
    content = packed(table, row_group_size=24, use_dictionary=False, write_page_checksum=True)
    column = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(2)
    end = column.data_page_offset + column.total_compressed_size - 8
    content = content[:end] + bytes(255 - byte for byte in content[end : end + 4]) + content[end + 4 :]
    reader = make_reader(SOURCE, {"readings.parquet": content})
    assert january(reader)["row"].to_list() == list(range(1, 25))
    with pytest.raises(InputError, match=r"readings\.parquet: cannot be read as Parquet"):
        reader.readings(reader.context.config.calendar.periods()[1])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("times", "options", "source"),
    [
        (pa.array([ONE, TWO]), {"write_statistics": False}, {}),
        (pa.array([ONE, TWO]), {"write_statistics": ["id", "q"]}, {}),
        (pa.array([ONE, TWO]), {"use_deprecated_int96_timestamps": True}, {}),
        (pa.array([ONE.isoformat(), TWO.isoformat()]), {}, {}),
        (pa.array([f"{ONE:%d.%m.%Y}", f"{TWO:%d.%m.%Y}"]), {}, {"time_format": "%d.%m.%Y"}),
        (pa.array([ONE, TWO]).cast(pa.date32()), {}, {}),
        (pa.array([ONE.timestamp(), TWO.timestamp()]), {}, {"time_unit": "s"}),
    ],
)
def test_without_statistics_of_times_the_whole_file_is_read(
    make_reader: MakeReader, decoded: list[int], times: pa.Array, options: dict[str, Any], source: dict[str, Any]
) -> None:
    table = {"id": pa.array(["a", "b"]), "time": times, "q": pa.array([1.5, 2.5])}
    found = of(make_reader, packed(table, row_group_size=1, **options), **source)
    assert decoded == [0, 1]
    assert found.select("sensor_id", "row").rows() == [("a", 1)]


def test_a_row_group_in_which_a_time_is_missing_is_read_so_that_it_is_told(
    make_reader: MakeReader, decoded: list[int]
) -> None:
    times = pa.array([ONE, ONE, TWO, None])
    table = {"id": pa.array(["a"] * 4), "time": times, "q": pa.array([1.0] * 4)}
    assert "data row 4: timestamp: found nothing" in refused(make_reader, packed(table, row_group_size=2))
    assert decoded == [0, 1]


@pytest.mark.parametrize("text", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_file_of_other_periods_gives_no_rows_of_the_usual_columns(
    make_reader: MakeReader, decoded: list[int], text: pa.DataType
) -> None:
    table = hourly(datetime(2024, 2, 1), 5)
    found = of(make_reader, packed(table | {"id": table["id"].cast(text)}, row_group_size=2))
    assert (len(found), decoded) == (0, [])
    assert found.schema == of(make_reader, columns()).schema


@pytest.mark.parametrize("zoned", [None, "+01:00"], ids=["on the clock", "with an offset"])
@pytest.mark.parametrize("interval", ["start", "end"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
def test_row_groups_of_any_size_give_every_period_its_rows_and_no_others(
    make_reader: MakeReader, zone: str, interval: str, zoned: str | None
) -> None:
    edges = [datetime(2024, 3, 30) + timedelta(days=day) for day in range(4)]
    around = [timedelta(hours=hour) for hour in (-14, -13, -1, 0, 1, 4, 5, 10)] + [timedelta(milliseconds=-1)]
    begins = sorted(edge + away for edge in edges for away in around)
    config = {"timezone": zone, "periods": {"every": "1d", "start": "2024-03-30", "end": "2024-04-02"}}
    for size in (1, 4, len(begins)):
        labels = pa.array([begin + timedelta(hours=interval == "end") for begin in begins], pa.timestamp("ms"))
        table = {"time": labels.cast(pa.timestamp("ms", zoned)), "q": pa.array([1.0] * len(begins))}
        content = packed({"id": pa.array(["a"] * len(begins))} | table, row_group_size=size)
        reader = make_reader(SOURCE | {"interval": interval}, {"readings.parquet": content}, **config)
        for period in reader.context.config.calendar.periods():  # type: ignore[attr-defined]
            start, end = (edge.astimezone(UTC) if zoned else edge for edge in (period.start, period.end))
            inside = [start.replace(tzinfo=None) <= begin < end.replace(tzinfo=None) for begin in begins]
            assert reader.readings(period)["row"].to_list() == [row for row, held in enumerate(inside, 1) if held]
        begins = [*begins[1::2], *begins[::2]]


def test_a_table_without_rows_is_read(make_reader: MakeReader) -> None:
    table = pa.table(
        {"id": pa.array([], pa.string()), "time": pa.array([], pa.timestamp("us")), "q": pa.array([], pa.int8())}
    )
    found = of(make_reader, packed(table))
    assert found.schema == of(make_reader, columns(q=pa.array([1, 2]))).schema
    assert len(found) == 0


def test_only_the_named_columns_are_read_whatever_else_there_is(make_reader: MakeReader) -> None:
    plain = pa.table(
        {"id": ["a"], "time": [ONE], "q": [1.0], "row": [9], "a.b": [1], "list": [[1]], "struct": [{"q": 5}]}
    )
    assert of(make_reader, packed(plain))["flow"].to_list() == [1.0]


def test_sensors_may_be_in_csv_and_edges_in_parquet(make_reader: MakeReader) -> None:
    sensors = pa.table({"id": ["a"], "latitude": [52.5], "installed": [date(2020, 1, 1)]})
    edges = pa.table({"source": ["a"], "target": ["b"], "weight": [0.5]})
    files = {"s.csv": "id,latitude\na,52.5\n", "s.parquet": packed(sensors), "e.parquet": packed(edges)}
    for name, installed in (("s.csv", None), ("s.parquet", date(2020, 1, 1))):
        reader = make_reader(SOURCE | {"sensors": name, "edges": "e.parquet"}, files)
        assert reader.sensors().select("sensor_id", "latitude", "installed").rows() == [("a", 52.5, installed)]
        found = reader.edges(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]
        assert found.select("source", "target", "weight").rows() == [("a", "b", 0.5)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "readings.parquet: cannot be read as Parquet"),
        (b"PAR1", "readings.parquet: cannot be read as Parquet"),
        (b"id,time,q\na,2024-01-01,1\n", "readings.parquet: cannot be read as Parquet"),
        (columns()[:-20], "readings.parquet: cannot be read as Parquet"),
        (
            columns(q=pa.array([[1], [2]])),
            "column 'q' holds list<element: int64>; expected text, numbers, dates or times",
        ),
        (columns(id=pa.array([{"a": 1}, {"a": 2}])), "column 'id' holds struct<a: int64>; expected text"),
        (columns(q=pa.array([ONE, TWO])), "data row 1: flow: found '2024-01-01 00:00:00', expected a number"),
        (columns(q=pa.array(["x", "2"])), "data row 1: flow: found 'x', expected a number"),
        (columns(time=pa.array([5, 6])), "data row 1: timestamp: found '5', expected a time such as 2024-01-31 13:00"),
        (columns(time=pa.array([None, TWO])), "data row 1: timestamp: found nothing, expected a time"),
        (columns(id=pa.array([b"\xff", b"b"])), "cannot be read as Parquet: Invalid UTF8"),
        (packed({"id": pa.array(["a"]), "when": pa.array([ONE])}), "there is no column 'time' (for timestamp)"),
    ],
)
def test_what_cannot_be_read_is_told(make_reader: MakeReader, content: bytes, expected: str) -> None:
    assert expected in refused(make_reader, content)


def test_a_column_that_is_there_twice_is_told(make_reader: MakeReader) -> None:
    arrays = [pa.array(["a"]), pa.array([ONE]), pa.array([1.0]), pa.array([2.0])]
    content = packed(pa.Table.from_arrays(arrays, names=["id", "time", "q", "q"]))
    assert "there are two columns 'q'; expected each name once" in refused(make_reader, content)


def test_a_parquet_file_under_another_name_is_told(make_reader: MakeReader, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"readings\.csv: expected CSV, found a Parquet file; end its name in \.parquet"
    ):
        january(make_reader({"format": "parquet"}, {"readings.csv": columns()}))
