"""Parquet tables, read with Arrow: a damaged file ends in an error, whatever its bytes say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from st_pipeline.errors import InputError

ROWS = 1 << 20  # read at a time, which bounds the memory
MILLISECONDS = pa.timestamp("ms")


def parquet_columns(file: Path) -> list[str]:
    """Names of the columns."""
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        return [str(name) for name in parquet.schema_arrow.names]


Bounds = Mapping[str, tuple[datetime, datetime]]


def parquet_parts(
    file: Path, columns: Mapping[str, str], bounds: Bounds | None = None
) -> Iterator[tuple[int, pl.DataFrame]]:
    """The named columns in parts of some rows, at least one part; text, numbers, dates and times only.

    Yields:
        The number of rows before the part, and the part.

    Args:
        columns: our name -> the file's column.
        bounds: our name of a column of times -> from when to before when they are wanted, on the clock and in UTC;
            parts of the file whose statistics say that they hold none are not read.

    Raises:
        InputError: a column is twice in the file, or holds something else.
    """
    with _open(file, columns.get("sensor_id", "")) as (parquet, schema):
        for name in columns.values():
            if schema.names.count(name) > 1:
                raise InputError(f"{file}: there are two columns {name!r}; expected each name once")
            if not _is_plain(schema.field(name).type):
                raise InputError(
                    f"{file}: column {name!r} holds {schema.field(name).type}; expected text, numbers, dates or times"
                )
        wanted = list(dict.fromkeys(columns.values()))
        empty, rows = True, 0
        for group in range(parquet.num_row_groups):
            facts = parquet.metadata.row_group(group)
            if any(_is_outside(facts, columns[name], schema, *within) for name, within in (bounds or {}).items()):
                rows += facts.num_rows
                continue
            for batch in parquet.iter_batches(ROWS, columns=wanted, row_groups=[group]):
                empty = False
                yield rows, _frame(batch, columns)
                rows += batch.num_rows
        if empty:
            arrays = [pa.array([], schema.field(name).type) for name in wanted]
            yield 0, _frame(pa.record_batch(arrays, names=wanted), columns)


@contextmanager
def _open(file: Path, ids: str) -> Iterator[tuple[pq.ParquetFile, pa.Schema]]:
    """A file that reads its column of ids as codes if that is text, since ids repeat; and its schema without codes."""
    with pa.OSFile(str(file)) as source:
        plain = pq.ParquetFile(source)
        schema, facts = plain.schema_arrow, plain.metadata
        coded = [ids] if schema.names.count(ids) == 1 and _is_text(schema.field(ids).type) else []
        yield pq.ParquetFile(source, metadata=facts, page_checksum_verification=True, read_dictionary=coded), schema


def _is_outside(facts: Any, name: str, schema: pa.Schema, start: datetime, end: datetime) -> bool:
    """Whether the statistics of a row group say that every time in a column is there and none is within."""
    kind = schema.field(name).type
    if not pa.types.is_timestamp(kind):
        return False
    places = [place for place in range(facts.num_columns) if facts.column(place).path_in_schema == name]
    told = facts.column(places[0]).statistics if len(places) == 1 else None
    if told is None or not told.has_min_max or told.null_count != 0:
        return False
    try:
        least, most = (moment.replace(tzinfo=None) for moment in (told.min, told.max))
    except (OverflowError, ValueError):  # a time that Python has no date for
        return False
    return bool(most < start or least >= end)


def _frame(batch: pa.RecordBatch, columns: Mapping[str, str]) -> pl.DataFrame:
    batch.validate(full=True)
    return pl.DataFrame({ours: _series(batch.column(theirs)) for ours, theirs in columns.items()})


def _series(array: pa.Array) -> pl.Series:
    """Bytes as text, times in milliseconds, in UTC if they have a time zone, no half floats, no categories but text."""
    kind = array.type
    if pa.types.is_dictionary(kind) and not pa.types.is_string(kind.value_type):
        array, kind = array.cast(kind.value_type), kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        array = array.cast(pa.large_string())
    elif pa.types.is_float16(kind):
        array = array.cast(pa.float32())
    elif pa.types.is_timestamp(kind):
        target = pa.timestamp("ms", tz="UTC") if kind.tz else MILLISECONDS
        array = array.cast(target, safe=kind.unit == "s")
    return pl.Series(values=pl.from_arrow(array))


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    tests = (
        *(types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary),
        *(types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null),
        *(types.is_timestamp, types.is_date),
    )
    return any(test(kind) for test in tests)
