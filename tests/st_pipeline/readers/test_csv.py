"""Long tables in CSV: dialects, encodings, compression; what cannot be read is told with file, row and column."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from st_pipeline.errors import InputError
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA, Reader

MakeReader = Callable[..., Reader]
TABLE = "id,time,q\n007,2024-01-01 00:00,1.5\nb,2024-01-31 23:00,\nc,2024-02-01 00:00,0\n"
NINE = datetime(2024, 1, 1, 9)


def january(reader: Reader) -> pl.DataFrame:
    return reader.readings(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]


def of(
    make_reader: MakeReader, content: str | bytes, source: dict[str, Any] | None = None, **changes: Any
) -> pl.DataFrame:
    return january(make_reader({"format": "csv", **(source or {})}, {"readings.csv": content}, **changes))


def refused(make_reader: MakeReader, content: str | bytes, source: dict[str, Any] | None = None, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        of(make_reader, content, source, **changes)
    return str(caught.value)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content).to_pybytes()


def test_rows_of_the_period_as_landed_with_file_and_row(make_reader: MakeReader) -> None:
    found = of(make_reader, TABLE)
    assert found.columns == ["sensor_id", "timestamp", "flow", "file", "row"]
    assert found.rows() == [
        ("007", datetime(2024, 1, 1), 1.5, "readings.csv", 1),
        ("b", datetime(2024, 1, 31, 23), None, "readings.csv", 2),
    ]


def test_the_row_is_that_of_the_file_whatever_its_order(make_reader: MakeReader) -> None:
    labels = ["2024-02-01 00:00", "2024-01-31 23:00", "2024-03-01 00:00", "2024-01-01 00:00"]
    found = of(make_reader, "id,time,q\n" + "".join(f"a,{label},{row}\n" for row, label in enumerate(labels, 1)))
    assert found["row"].to_list() == found["flow"].to_list() == [2, 4]


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (TABLE.encode("utf-8-sig"), {}),
        (TABLE.replace("\n", "\r\n"), {}),
        (gzip.compress(TABLE.encode(), mtime=0), {}),
        (zstd(TABLE.encode()), {}),
        (TABLE.replace(",", ";"), {"delimiter": ";"}),
        (TABLE.replace(",", "\t"), {"delimiter": "\t"}),
        (TABLE.encode("utf-16"), {"encoding": "utf-16"}),
        (gzip.compress(TABLE.encode("utf-16"), mtime=0), {"encoding": "utf-16"}),
        (TABLE.replace(",", ";").replace("1.5", "1,5"), {"delimiter": ";", "decimal_comma": True}),
        ('"id","time","q"\n"007","2024-01-01 00:00","1.5"\n"b","2024-01-31 23:00",""\n', {}),
        ("q,extra,time,id\n1.5,x,2024-01-01 00:00,007\n,y,2024-01-31 23:00,b\n", {}),
        (",id,time,q\n0,007,2024-01-01 00:00,1.5\n1,b,2024-01-31 23:00,\n", {}),
        ("row,id,time,q\n9,007,2024-01-01 00:00,1.5\n9,b,2024-01-31 23:00,\n", {}),
        (" id,time,q\n007 ,2024-01-01 00:00, 1.5\n b,2024-01-31 23:00,\n", {"columns": {"sensor_id": " id"}}),
    ],
)
def test_the_same_table_written_otherwise(
    make_reader: MakeReader, content: str | bytes, source: dict[str, Any]
) -> None:
    columns = {"sensor_id": "id", "timestamp": "time", "flow": "q"} | source.pop("columns", {})
    found = of(make_reader, content, source | {"columns": columns})
    assert found.select("sensor_id", "flow", "row").rows() == [("007", 1.5, 1), ("b", None, 2)]


def test_latin_1(make_reader: MakeReader) -> None:
    content = "id,time,q\nMünster,2024-01-01 00:00,1\n".encode("latin-1")
    assert of(make_reader, content, {"encoding": "latin-1"})["sensor_id"].to_list() == ["Münster"]
    assert of(make_reader, gzip.compress(content), {"encoding": "latin-1"})["sensor_id"].to_list() == ["Münster"]
    said = refused(make_reader, content)
    assert "readings.csv: line 2: byte 0xfc is not UTF-8; save the file as UTF-8 or set source.encoding" in said
    assert "line 2: byte 0xfc is not UTF-8" in refused(make_reader, gzip.compress(content))


@pytest.mark.parametrize("cell", ["", "NA", "N/A", "NaN", "nan", "null", "None", "-", '""'])
def test_a_missing_value_is_null_however_it_is_written(make_reader: MakeReader, cell: str) -> None:
    assert of(make_reader, f"id,time,q\na,2024-01-01 00:00,{cell}\n")["flow"].to_list() == [None]


def test_a_stream_may_say_what_is_null(make_reader: MakeReader) -> None:
    content = "id,time,q\na,2024-01-01 00:00,?\nNA,2024-01-01 00:00,5\n"
    found = of(make_reader, content, {"null_values": ["?"]})
    assert found.select("sensor_id", "flow").rows() == [("a", None), ("NA", 5.0)]


def test_quoted_cells_may_hold_delimiters_and_lines(make_reader: MakeReader) -> None:
    found = of(make_reader, 'id,time,q\n"a,""b""\nc",2024-01-01 00:00,1\nd,2024-01-02 00:00,2\n')
    assert found.select("sensor_id", "row").rows() == [('a,"b"\nc', 1), ("d", 2)]


def test_files_are_read_together_and_empty_ones_among_them_do_no_harm(make_reader: MakeReader) -> None:
    files = {"r/1.csv": TABLE, "r/2.csv": "id,time,q\n", "r/3.csv": TABLE.replace("007", "008")}
    found = january(make_reader({"format": "csv", "readings": "r/*.csv"}, files))
    assert sorted(found["sensor_id"].to_list()) == ["007", "008", "b", "b"]
    only = january(make_reader({"format": "csv", "readings": "r/2.csv"}, {}))
    assert only.columns == found.columns
    assert len(only) == 0


def test_reception_times_are_read_where_a_file_has_them(make_reader: MakeReader) -> None:
    files = {
        "r/1.csv": "id,time,q,received\na,2024-01-01 00:00,1,2024-01-01 09:00\nb,2024-01-01 00:00,1,\n",
        "r/2.csv": "id,time,q\na,2024-01-01 01:00,2\n",
    }
    found = january(make_reader({"format": "csv", "readings": "r/*.csv"}, files))
    assert set(found.select("flow", "received").rows()) == {(1.0, NINE), (1.0, None), (2.0, None)}


@pytest.mark.parametrize(
    ("interval", "labels"),
    [("start", ["2024-01-01 00:00", "2024-01-31 23:00"]), ("end", ["2024-01-01 01:00", "2024-02-01 00:00"])],
)
def test_a_label_at_the_end_of_its_interval_belongs_to_the_period_before(
    make_reader: MakeReader, interval: str, labels: list[str]
) -> None:
    hours = pl.datetime_range(datetime(2023, 12, 31, 20), datetime(2024, 2, 1, 4), "1h", eager=True)
    content = "id,time,q\n" + "".join(f"a,{hour:%Y-%m-%d %H:%M},1\n" for hour in hours)
    found = of(make_reader, content, {"interval": interval})["timestamp"].dt.strftime("%Y-%m-%d %H:%M")
    assert [found[0], found[-1]] == labels
    assert len(found) == 31 * 24


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"])
def test_instants_are_compared_as_instants_and_labels_as_labels(make_reader: MakeReader, timezone: str) -> None:
    zone = "2024-01-01T00:00:00" + {"UTC": "Z", "Europe/Berlin": "+01:00", "Asia/Kolkata": "+05:30"}.get(
        timezone, "-05:00"
    )
    instants = of(make_reader, f"id,time,q\na,{zone},1\nb,2023-12-31T00:00:00Z,2\n", timezone=timezone)
    assert instants["sensor_id"].to_list() == ["a"]
    assert instants["timestamp"].dtype == pl.Datetime("ms", "UTC")
    labels = of(make_reader, "id,time,q\na,2024-01-01 00:00,1\nb,2023-12-31 23:59,2\n", timezone=timezone)
    assert labels["sensor_id"].to_list() == ["a"]


def test_epoch_times(make_reader: MakeReader) -> None:
    found = of(make_reader, "id,time,q\na,1704099600,1\n", {"time_unit": "s"})
    assert found["timestamp"].to_list() == [NINE.replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    ("content", "source", "expected"),
    [
        ("", {}, "readings.csv: is empty; expected a header and rows"),
        ("\n\n", {}, "readings.csv: cannot be read as CSV: empty CSV"),
        ("a,b\n1,2\n", {}, "readings.csv: there is no column 'id' (for sensor_id); known: 'a', 'b'"),
        ("id,tme,q\n", {}, "there is no column 'time' (for timestamp); did you mean 'tme'?"),
        (TABLE, {"delimiter": ";"}, "there is no column 'id' (for sensor_id); known: 'id,time,q'"),
        ("id,time,q,q\na,2024-01-01,1,2\n", {}, "line 1: there are two columns 'q'; expected each name once"),
        ("id,time,q\ra,2024-01-01,1\r", {}, "its lines end with a carriage return alone"),
        ("id,time,q\na,2024-01-01,1\nb,2024-01-01,1,5\n", {}, "line 3: found 4 fields, expected 3 as in the header"),
        (
            'id,time,q\na,2024-01-01,1\nb,"2024-01-01,1\n',
            {},
            "line 3: a quotation mark is opened here and never closed",
        ),
        ('id,time,q\na,2024-01-01,1\n"b"c,2024-01-01,1\n', {}, "line 3: there is text behind a closing quotation mark"),
        ("id,time,q\na,2024-01-01 00:00,many\n", {}, "data row 1: flow: found 'many', expected a number"),
        ("id,time,q\na,2024-01-01,x\nb,2024-01-01,y\n", {}, "found 'x', expected a number (and 1 more such rows)"),
        ('id,time,q\na,2024-01-01 00:00,"1,5"\n', {}, "data row 1: flow: found '1,5', expected a number"),
        (
            "id,time,q\na,2024-01-01,1\na,01/02/2024,1\n",
            {},
            "data row 2: timestamp: found '01/02/2024', expected a time",
        ),
        ("id,time,q\na,,1\n", {}, "data row 1: timestamp: found nothing, expected a time such as 2024-01-31 13:00"),
        ("id,time,q\na,1704099600,1\n", {}, "found '1704099600', expected a time such as 2024-01-31 13:00, without"),
        ("id,time,q\na,1704099600,1\n", {}, "set source.time_format"),
        ("id,time,q\na,2024-01-01,1\na,2024-01-01T09:00Z,1\n", {}, "2024-01-31 13:00, without a UTC offset as in the"),
        (
            "id,time,q\na,2024-01-01T09:00Z,1\na,2024-01-01,1\n",
            {},
            "13:00+01:00, with a UTC offset as in the first row",
        ),
        ("id,time,q\na,soon,1\n", {"time_format": "%d.%m.%Y"}, "a time written as source.time_format says, '%d.%m.%Y'"),
        ("id,time,q\na,soon,1\n", {"time_unit": "ms"}, "found 'soon', expected a number of ms since 1970"),
        ("id,time,q,received\na,2024-01-01,1,later\n", {}, "data row 1: received: found 'later', expected a time"),
        (TABLE, {"delimiter": ";;"}, "stream 'stream': source.delimiter: found ';;', expected one character such as"),
        (TABLE, {"delimiter": ""}, "source.delimiter: found '', expected one character"),
        (TABLE, {"delimiter": "\\t"}, "double quotes for a tab"),
        (TABLE, {"encoding": "utf-9"}, "source.encoding: found 'utf-9', expected one such as utf-8 or latin-1"),
        (TABLE, {"encoding": "hex"}, "source.encoding: found 'hex'"),
        (TABLE, {"encoding": ""}, "source.encoding: found ''"),
        (b"id,time,q\n\x81", {"encoding": "cp1252"}, "line 2: is not cp1252; set source.encoding"),
        (TABLE, {"time_format": "ISO"}, "source.time_format: found 'ISO', expected one such as '%d.%m.%Y %H:%M'"),
        (TABLE, {"time_format": "%Y", "time_unit": "s"}, "either a time_format or a time_unit, not both"),
        (b"\x1f\x8b\x08\x00broken", {}, "readings.csv: cannot be read as CSV: "),
        (gzip.compress(TABLE.encode(), mtime=0)[:-12], {}, "readings.csv: cannot be read as CSV: "),
        (zstd(TABLE.encode())[:-5], {}, "readings.csv: cannot be read as CSV: "),
    ],
)
def test_what_cannot_be_read_is_told(
    make_reader: MakeReader, content: str | bytes, source: dict[str, Any], expected: str
) -> None:
    assert expected in refused(make_reader, content, source)


def test_a_bad_cell_of_another_period_does_not_stop_this_one(make_reader: MakeReader) -> None:
    reader = make_reader({"format": "csv"}, {"readings.csv": "id,time,q\na,2024-01-01,1\na,2024-02-01,x\n"})
    assert january(reader)["flow"].to_list() == [1.0]
    with pytest.raises(InputError, match=r"data row 2: flow: found 'x'"):
        reader.readings(reader.context.config.calendar.periods()[1])  # type: ignore[attr-defined]


@pytest.mark.parametrize("column", ["time", "received"])
def test_files_agree_on_offsets(make_reader: MakeReader, column: str) -> None:
    header = "id,time,q,received\n"
    rows = {
        "time": "a,2024-01-01 09:00{},1,2024-01-01 09:00\n",
        "received": "a,2024-01-01 09:00,1,2024-01-01 09:00{}\n",
    }
    files = {"r/1.csv": header + rows[column].format(""), "r/2.csv": header + rows[column].format("Z")}
    with pytest.raises(InputError, match=r"some files give \w+ with a UTC offset, some without; write all alike"):
        january(make_reader({"format": "csv", "readings": "r/*.csv"}, files))


def test_sensors_and_edges(make_reader: MakeReader) -> None:
    files = {
        "sensors.csv": "id,latitude,longitude,installed,retired\n007,52.5,13.4,2020-01-01,\nb,,,,2024-01-01\n",
        "edges.csv": "source,target,distance\n007,b,120.5\nb,007,\n",
        "readings.csv": TABLE,
    }
    reader = make_reader({"format": "csv", "sensors": "sensors.csv", "edges": "edges.csv"}, files)
    sensors, edges = reader.sensors(), reader.edges(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]
    assert sensors.schema == pl.Schema(SENSOR_SCHEMA)
    assert edges.schema == pl.Schema(EDGE_SCHEMA)
    assert sensors.select("sensor_id", "latitude", "installed", "retired").rows() == [
        ("007", 52.5, date(2020, 1, 1), None),
        ("b", None, None, date(2024, 1, 1)),
    ]
    assert edges.select("source", "target", "distance", "weight").rows() == [
        ("007", "b", 120.5, None),
        ("b", "007", None, None),
    ]
    assert reader.has_edges
    assert [path.name for path in reader.files()] == ["readings.csv", "sensors.csv", "edges.csv"]


def test_a_source_without_sensors_has_an_empty_table(make_reader: MakeReader) -> None:
    sensors = make_reader({"format": "csv"}, {"readings.csv": TABLE}).sensors()
    assert sensors.schema == pl.Schema(SENSOR_SCHEMA)
    assert len(sensors) == 0


@pytest.mark.parametrize(
    ("table", "content", "expected"),
    [
        ("sensors", "id,latitude\na,north\n", "sensors.csv: data row 1: latitude: found 'north', expected a number"),
        ("sensors", "id,x,y\na,1,2\nb,inf,2\n", "sensors.csv: data row 2: x: found inf, expected a finite number"),
        (
            "sensors",
            "id,installed\na,2020\n",
            "data row 1: installed: found '2020', expected a date such as 2024-01-31",
        ),
        ("sensors", "id,latitude\n,52\n", "data row 1: sensor_id: found nothing, expected an id"),
        ("sensors", "name,latitude\na,52\n", "sensors.csv: there is no column 'id' (for sensor_id)"),
        ("sensors", "", "sensors.csv: is empty; expected a header and rows"),
        (
            "edges",
            "source,target,distance\na,b,far\n",
            "edges.csv: data row 1: distance: found 'far', expected a number",
        ),
        ("edges", "source,target,distance\na,,5\n", "data row 1: target: found nothing, expected an id"),
        ("edges", "source,target,weight\na,b,-inf\n", "data row 1: weight: found -inf, expected a finite number"),
        ("edges", "from,to\na,b\n", "edges.csv: there is no column 'source'"),
    ],
)
def test_facts_that_cannot_be_read_are_told(make_reader: MakeReader, table: str, content: str, expected: str) -> None:
    reader = make_reader({"format": "csv", table: f"{table}.csv"}, {f"{table}.csv": content})
    with pytest.raises(InputError) as caught:
        reader.sensors() if table == "sensors" else reader.edges(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]
    assert expected in str(caught.value)


def test_a_mapped_fact_must_be_there(make_reader: MakeReader) -> None:
    columns = {"sensor_id": "id", "latitude": "lat", "flow": "q"}
    reader = make_reader({"format": "csv", "sensors": "s.csv", "columns": columns}, {"s.csv": "id,latt\na,1\n"})
    with pytest.raises(InputError, match=r"there is no column 'lat' \(for latitude\); did you mean 'latt'"):
        reader.sensors()


def test_the_periods_of_a_file_are_those_it_has_rows_of(make_reader: MakeReader) -> None:
    reader = make_reader({"format": "csv", "sensors": "s.csv"}, {"readings.csv": TABLE, "s.csv": "id\n007\n"})
    periods = reader.context.config.calendar.periods()
    readings, sensors = reader.files()
    assert reader.periods_of(readings, periods) == ["2024-01", "2024-02"]
    assert reader.periods_of(readings, periods[1:]) == ["2024-02"]
    assert reader.periods_of(sensors, periods) is None
    readings.write_text("id,time,q\nb,2024-02-01 00:30+01:00,1\n")
    assert reader.periods_of(readings, periods) == ["2024-01"], "half an hour before midnight in UTC"
    readings.write_text("id,time,q\nb,2024-02-01 00:00,1\nb,soon,1\n")
    with pytest.raises(InputError, match=r"readings.csv: data row 2: timestamp: found 'soon'"):
        reader.periods_of(readings, periods)
