"""Random damage to good files: what is read of rows that nobody touched is right, or one sentence says why not."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drills.damage import TOKENS, Damage, cell, cut, damaged, delete, insert, lines, overwrite, repeat
from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import clean
from st_pipeline.errors import InputError
from st_pipeline.readers import readers
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA, Reader, SourceContext

START = datetime(2024, 1, 1)
ROWS = [(f"s{number % 5}", START + timedelta(hours=number // 5), number * 1.25) for number in range(60)]
HEADER = "id,time,q,note"
LINES = [f"{name},{time:%Y-%m-%d %H:%M},{value},ok" for name, time, value in ROWS]
GOOD = "\n".join([HEADER, *LINES, ""])
SENSORS = "id,latitude,longitude,installed\n" + "".join(f"s{n},52.{n},13.{n},2020-01-0{n + 1}\n" for n in range(5))
EDGES = "source,target,distance\n" + "".join(f"s{n},s{n + 1},{n}.5\n" for n in range(4))
BYTES = st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from([token.encode() for token in TOKENS]))
PLACE = st.sampled_from([step / 997 for step in range(997)])

in_bytes = st.one_of(
    st.builds(overwrite, PLACE, BYTES),
    st.builds(insert, PLACE, BYTES),
    st.builds(delete, PLACE, st.integers(1, 80)),
    st.builds(repeat, PLACE, st.integers(1, 80)),
    st.builds(cut, PLACE),
)
in_text = st.one_of(
    in_bytes,
    st.builds(lines, PLACE, PLACE, st.sampled_from(["delete", "repeat", "swap"])),
    st.builds(cell, PLACE, st.integers(0, 3), BYTES),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


def reader_of(folder: Path, extension: str, **files: bytes) -> Reader:
    """A reader of the good files, some of them replaced."""
    good = {"readings": GOOD.encode(), "sensors": SENSORS.encode(), "edges": EDGES.encode()}
    for name, content in {**good, **files}.items():
        (folder / f"{name}.{extension if name == 'readings' else 'csv'}").write_bytes(content)
    config = StreamConfig.model_validate(
        {
            "name": "stream",
            "source": {
                "format": extension,
                "readings": f"readings.{extension}",
                "sensors": "sensors.csv",
                "edges": "edges.csv",
                "columns": {"sensor_id": "id", "timestamp": "time", "flow": "q"},
            },
            "step": "1h",
            "periods": {"every": "1d", "start": "2024-01-01", "end": "2024-01-02"},
        }
    )
    context = SourceContext(config, folder, folder / "data", folder / "scratch")
    reader: Reader = readers.build(config.source.spec(), context=context)
    return reader


def read(reader: Any) -> pl.DataFrame | None:
    """The readings, if there is nothing to say against the file; they can be cleaned then."""
    period = reader.context.config.calendar.periods()[0]
    try:
        frame: pl.DataFrame = reader.readings(period)
    except InputError as error:
        is_one_sentence(error, reader.context.folder)
        return None
    clean(frame, reader.context.config, period)
    return frame


def is_one_sentence(error: InputError, folder: Path) -> None:
    assert str(error).isprintable()
    assert str(folder) in str(error), "it names the file"


def untouched(content: bytes) -> list[tuple[int, str]]:
    """Data rows of a damaged file that are good lines, with their numbers; none where quotes may join lines."""
    first, *rest = content.decode().split("\n")
    if first != HEADER or '"' in content.decode():
        return []
    return [(number, line) for number, line in enumerate(rest, 1) if line in LINES]


@given(damage=st.lists(in_text, min_size=1, max_size=3))
@settings(max_examples=100)
def test_a_damaged_csv_file(folder: Path, damage: list[Damage]) -> None:
    content = damaged(GOOD.encode(), damage)
    frame = read(reader_of(folder, "csv", readings=content))
    if frame is None:
        return
    assert frame.schema["flow"] == pl.Float64
    found = {row["row"]: row for row in frame.iter_rows(named=True)}
    for number, line in untouched(content):
        name, time, value = ROWS[LINES.index(line)]
        row = found[number]
        assert (row["sensor_id"], row["timestamp"], row["flow"]) == (name, time, value)


@pytest.mark.parametrize(("table", "good"), [("sensors", SENSORS), ("edges", EDGES)], ids=["sensors", "edges"])
@given(damage=st.lists(in_text, min_size=1, max_size=3))
@settings(max_examples=50)
def test_a_damaged_table_of_facts(folder: Path, table: str, good: str, damage: list[Damage]) -> None:
    reader: Any = reader_of(folder, "csv", **{table: damaged(good.encode(), damage)})
    try:
        frame = reader.sensors() if table == "sensors" else reader.edges(reader.context.config.calendar.periods()[0])
    except InputError as error:
        is_one_sentence(error, folder)
        return
    assert frame.schema == pl.Schema(SENSOR_SCHEMA if table == "sensors" else EDGE_SCHEMA)
    assert not frame["sensor_id" if table == "sensors" else "target"].has_nulls()


def packed(compression: str, **options: Any) -> bytes:
    """The good table as Parquet with a checksum on every page."""
    columns = list(zip(*ROWS, strict=True))
    table = pa.table({"id": columns[0], "time": pa.array(columns[1], pa.timestamp("ms")), "q": columns[2]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, write_page_checksum=True, row_group_size=20, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["none", "zstd"])
@given(damage=st.lists(in_bytes, min_size=1, max_size=2))
@settings(max_examples=60)
def test_a_damaged_parquet_file(folder: Path, compression: str, damage: list[Damage]) -> None:
    frame = read(reader_of(folder, "parquet", readings=damaged(packed(compression), damage)))
    if frame is not None:
        assert frame.columns == ["sensor_id", "timestamp", "flow", "file", "row"]


def values(content: bytes) -> list[int]:
    """Places of the values of such a file: the ends of the column chunks. Checksums cover them and no page header."""
    groups = pq.ParquetFile(io.BytesIO(content)).metadata
    found: list[int] = []
    for group in range(groups.num_row_groups):
        for column, width in enumerate((4 + 2, 8, 8)):  # of ids the length and two letters
            chunk = groups.row_group(group).column(column)
            end = chunk.data_page_offset + chunk.total_compressed_size
            found += range(end - width * groups.row_group(group).num_rows, end)
    return found


@given(place=PLACE, new=st.binary(min_size=1, max_size=4))
@settings(max_examples=60)
def test_checksums_tell_changed_values(folder: Path, place: float, new: bytes) -> None:
    content = bytearray(packed("none", use_dictionary=False))
    places = values(content)
    first = int(place * len(places))
    for at, byte in zip(places[first:], new, strict=False):
        content[at] = byte
    frame = read(reader_of(folder, "parquet", readings=bytes(content)))
    if frame is not None:
        assert frame.select("sensor_id", "timestamp", "flow").rows() == ROWS
