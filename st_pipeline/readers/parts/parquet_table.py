"""Parquet tables, read with Arrow: a damaged file ends in an error, whatever its bytes say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from st_pipeline.errors import InputError

ROWS = 1 << 18  # read at a time, which bounds the memory
MILLISECONDS = pa.timestamp("ms")


def parquet_columns(file: Path) -> list[str]:
    """Names of the columns."""
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        return [str(name) for name in parquet.schema_arrow.names]


def parquet_parts(file: Path, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    """The named columns in parts of some rows, at least one part; text, numbers, dates and times only.

    Args:
        columns: our name -> the file's column.

    Raises:
        InputError: a column is twice in the file, or holds something else.
    """
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        schema = parquet.schema_arrow
        for name in columns.values():
            if schema.names.count(name) > 1:
                raise InputError(f"{file}: there are two columns {name!r}; expected each name once")
            if not _is_plain(schema.field(name).type):
                raise InputError(
                    f"{file}: column {name!r} holds {schema.field(name).type}; expected text, numbers, dates or times"
                )
        wanted = list(dict.fromkeys(columns.values()))
        empty = True
        for batch in parquet.iter_batches(ROWS, columns=wanted):
            empty = False
            yield _frame(batch, columns)
        if empty:
            arrays = [pa.array([], schema.field(name).type) for name in wanted]
            yield _frame(pa.record_batch(arrays, names=wanted), columns)


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
