"""Per-period matrices in the layout of the published archives, and calendars that are only nominal."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from st_pipeline.errors import InputError
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA, Reader

MakeReader = Callable[..., Reader]
NOMINAL = {"every": "year", "start": 2011, "end": 2013, "nominal": True}
SOURCE = {
    "format": "npz",
    "readings": "raw/{period}.npz",
    "adjacency": "graph/{period}_adj.npz",
    "columns": {"flow": "x"},
}


def archive(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def of(make_reader: MakeReader, files: dict[str, bytes], **source: Any) -> Reader:
    return make_reader(SOURCE | source, files, periods=NOMINAL, step="5min")


def first(reader: Reader) -> pl.DataFrame:
    return reader.readings(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]


def edges(reader: Reader) -> pl.DataFrame:
    return reader.edges(reader.context.config.calendar.periods()[0])  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 1)])
def test_a_matrix_becomes_rows_on_a_nominal_calendar(make_reader: MakeReader, shape: tuple[int, ...]) -> None:
    values = np.arange(18, dtype=np.float32).reshape(shape)
    found = first(of(make_reader, {"raw/2011.npz": archive(x=values)}))
    assert found.columns == ["sensor_id", "timestamp", "flow", "file", "row"]
    assert set(found["sensor_id"]) == {"00000", "00001", "00002"}
    start = datetime(2011, 1, 1)
    for sensor, moment, flow, file, row in found.rows():
        step = (moment.replace(tzinfo=None) - start) // timedelta(minutes=5)
        assert flow == values.reshape(6, 3)[step, int(sensor)]
        assert (file, row) == ("raw/2011.npz", step + 1)


def test_channels_are_variables(make_reader: MakeReader) -> None:
    values = np.arange(12.0).reshape(3, 2, 2)
    reader = of(make_reader, {"raw/2011.npz": archive(x=values)}, columns={"flow": "x", "speed": "y"})
    found = first(reader).filter(pl.col("sensor_id") == "00001")
    assert found.select("flow", "speed").rows() == [(2.0, 3.0), (6.0, 7.0), (10.0, 11.0)]


def test_nan_is_missing_and_zero_is_zero(make_reader: MakeReader) -> None:
    found = first(of(make_reader, {"raw/2011.npz": archive(x=np.array([[0.0, np.nan]]))}))
    assert dict(found.select("sensor_id", "flow").rows()) == {"00000": 0.0, "00001": None}


def test_only_the_first_steps_are_read_if_the_stream_says_so(make_reader: MakeReader) -> None:
    found = first(of(make_reader, {"raw/2011.npz": archive(x=np.zeros((10, 2)))}, steps=4))
    assert len(found) == 8


def test_a_nominal_period_holds_as_many_steps_as_time_passes(make_reader: MakeReader) -> None:
    """March has an hour less where clocks change; the archive's 31 days do not fit."""
    reader = make_reader(
        SOURCE | {"readings": "{period}.npz"},
        {"2024-03.npz": archive(x=np.zeros((31 * 24, 1)))},
        periods={"every": "month", "start": "2024-03", "end": "2024-04", "nominal": True},
        timezone="America/Los_Angeles",
    )
    with pytest.raises(
        InputError, match=r"744 steps of 1:00:00 do not fit in period 2024-03 \(743\); set source.steps"
    ):
        first(reader)


def test_an_adjacency_becomes_edges_in_the_direction_of_its_rows(make_reader: MakeReader) -> None:
    matrix = np.array([[0, 0.5, 0], [0, 0, 0], [0.25, 0, 1]])
    found = edges(of(make_reader, {"graph/2011_adj.npz": archive(x=matrix)}))
    assert found.schema == pl.Schema(EDGE_SCHEMA)
    assert found.select("source", "target", "weight").rows() == [
        ("00000", "00001", 0.5),
        ("00002", "00000", 0.25),
        ("00002", "00002", 1.0),
    ]


def test_all_files_of_all_periods_are_listed(make_reader: MakeReader) -> None:
    names = ["raw/2011.npz", "raw/2012.npz", "graph/2011_adj.npz", "graph/2012_adj.npz"]
    reader = of(make_reader, dict.fromkeys(names, archive(x=np.zeros((1, 1)))))
    assert [f"{path.parent.name}/{path.name}" for path in reader.files()] == names
    assert reader.has_edges
    assert reader.sensors().schema == pl.Schema(SENSOR_SCHEMA)


def test_without_an_adjacency_there_are_no_edges(make_reader: MakeReader) -> None:
    source = {key: value for key, value in SOURCE.items() if key != "adjacency"}
    reader = make_reader(source, {}, periods=NOMINAL, step="5min")
    assert not reader.has_edges
    with pytest.raises(InputError, match="gives no edges"):
        edges(reader)


def array_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 2)))
    return buffer.getvalue()


def deflated() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(1000.0).reshape(10, 100))
    content = bytearray(buffer.getvalue())
    content[300:320] = b"\xff" * 20
    return bytes(content)


def boasting() -> bytes:
    """An archive whose array claims to be far larger than any memory."""
    header = str({"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**20)}).encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "source", "expected"),
    [
        (b"", {}, "2011.npz: cannot be read as npz"),
        (b"no archive", {}, "2011.npz: cannot be read as npz"),
        (archive(x=np.zeros((2, 2)))[:-30], {}, "2011.npz: cannot be read as npz"),
        (deflated(), {}, "2011.npz: cannot be read as npz"),
        (boasting(), {}, "2011.npz: cannot be read as npz"),
        (array_file(), {}, "2011.npz: is a single array; expected an .npz archive"),
        (archive(data=np.zeros((2, 2))), {}, "2011.npz: there is no array 'x'; known: 'data'"),
        (archive(x=np.array([["a"]])), {}, "2011.npz: x: found type <U1, expected real numbers"),
        (archive(x=np.array([[1j]])), {}, "x: found type complex128, expected real numbers"),
        (archive(x=np.array([[None]])), {}, "cannot be read as npz"),
        (archive(x=np.zeros(3)), {}, "x: found shape (3,), expected (steps, sensors, 1) for flow"),
        (archive(x=np.zeros((2, 3, 2))), {}, "x: found shape (2, 3, 2), expected (steps, sensors, 1) for flow"),
        (archive(x=np.zeros((0, 3))), {}, "expected at least one step and sensor"),
        (archive(x=np.zeros((105_121, 1))), {}, "105,121 steps of 0:05:00 do not fit in period 2011 (105,120)"),
        (archive(x=np.zeros((2, 2))), {"steps": 0}, "source.steps: found 0, expected at least 1"),
        (archive(x=np.zeros((2, 2))), {"steps": -1}, "source.steps: found -1, expected at least 1"),
        (
            archive(x=np.zeros((2, 2))),
            {"readings": "raw/*.npz"},
            "expected one file a period, not 2011.npz and 2012.npz",
        ),
        (archive(x=np.zeros((2, 2))), {"readings": "{period}/x.npz"}, "source.readings: no file matches '2011/x.npz'"),
    ],
)
def test_archives_that_cannot_be_read_are_told(
    make_reader: MakeReader, content: bytes, source: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        first(of(make_reader, {"raw/2011.npz": content, "raw/2012.npz": content}, **source))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.zeros((2, 3)), "found shape (2, 3), expected a square adjacency matrix"),
        (np.array([[0, np.nan], [0, 0]]), "found a weight that is no finite number; expected 0 for no edge"),
        (np.array([["a"]]), "expected real numbers"),
        (np.array([[0, -1], [0, 0]]), "found a weight below 0; expected 0 for no edge"),
        (np.eye(3), "found shape (3, 3), expected a row for each of the 2 sensors"),
    ],
)
def test_adjacencies_that_cannot_be_read_are_told(make_reader: MakeReader, matrix: NDArray[Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        edges(of(make_reader, {"graph/2011_adj.npz": archive(x=matrix), "raw/2011.npz": archive(x=np.zeros((2, 2)))}))
    assert expected in str(caught.value)


def test_a_matrix_never_loses_columns(make_reader: MakeReader) -> None:
    files = {f"raw/{year}.npz": archive(x=np.zeros((2, count))) for year, count in ((2011, 3), (2012, 2))}
    reader = of(make_reader, files)
    first(reader)
    with pytest.raises(InputError, match=r"2012\.npz: x: found 2 sensors, expected at least the 3 of period 2011"):
        reader.readings(reader.context.config.calendar.periods()[1])  # type: ignore[attr-defined]


def test_times_start_where_the_period_does(make_reader: MakeReader) -> None:
    reader = make_reader(
        SOURCE | {"readings": "{period}.npz"},
        {"2024-01.npz": archive(x=np.zeros((2, 1)))},
        periods={"every": "month", "start": "2024-01", "end": "2024-02"},
        timezone="Asia/Kolkata",
    )
    assert first(reader)["timestamp"].dt.replace_time_zone("UTC")[0] == datetime(2023, 12, 31, 18, 30, tzinfo=UTC)


def test_the_periods_of_a_file_are_those_of_its_name(make_reader: MakeReader) -> None:
    files = {f"raw/{year}.npz": archive(x=np.ones((6, 3))) for year in (2011, 2012)}
    reader = of(make_reader, {**files, "graph/2012_adj.npz": archive(x=np.ones((3, 3)))})
    periods = reader.context.config.calendar.periods()
    found = {file.name: reader.periods_of(file, periods) for file in reader.files()}
    assert found == {"2011.npz": ["2011"], "2012.npz": ["2012"], "2012_adj.npz": ["2012"]}
    broken = reader.files()[0]
    broken.write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read as npz"):
        reader.periods_of(broken, periods)
