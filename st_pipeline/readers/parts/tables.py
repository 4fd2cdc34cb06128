"""Opening tables: CSV and Parquet files as frames of known columns, every fault told with file and column."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa

from st_pipeline.errors import InputError, closest
from st_pipeline.readers.parts.csv_table import ROW_INDEX, CsvOptions, first_fault, scan_csv
from st_pipeline.readers.parts.parquet_table import Bounds, parquet_columns, parquet_parts

PARQUET = {".parquet", ".pq"}
ROW = "row"


@contextmanager
def told(file: Path, csv: CsvOptions | None = None) -> Iterator[None]:
    """Turn a decoder's or the file system's complaint into one sentence naming the file, and the line of a CSV file."""
    try:
        yield
    except InputError:
        raise
    except (
        *(pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, zlib.error),
        *(OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError),
    ) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if csv is not None and not _is_parquet(file) and isinstance(error, pl.exceptions.PolarsError):
            reason = first_fault(file, csv) or reason
        raise InputError(f"{file}: cannot be read as {_kind(file)}: {reason}") from None


def table_columns(file: Path, csv: CsvOptions) -> list[str]:
    """Names of a table's columns.

    Raises:
        InputError: the file cannot be read as what its name says it is.
    """
    with told(file, csv):
        return parquet_columns(file) if _is_parquet(file) else _names(scan_csv(file, csv))


def choose(file: Path, columns: Mapping[str, str], optional: set[str], found: list[str]) -> dict[str, str]:
    """Those of the columns that the file has: our name -> the file's.

    Raises:
        InputError: one that is not optional is missing.
    """
    chosen: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs in found:
            chosen[ours] = theirs
        elif ours not in optional:
            what = f"column {theirs!r}" + (f" (for {ours})" if ours != theirs else "")
            one_cell = len(found) == 1 and any(mark in found[0] for mark in ",;\t|")
            hint = "; set source.delimiter if that is the header" if one_cell else ""
            raise InputError(f"{file}: there is no {what}; {closest(theirs, found)}{hint}")
    return chosen


def open_table(
    file: Path, columns: Mapping[str, str], optional: set[str], csv: CsvOptions, *, bounds: Bounds | None = None
) -> Iterator[pl.LazyFrame]:
    """The named columns of one file under our names, plus `row` (1 is the first data row), in parts.

    Args:
        file: a Parquet file if its name ends so, else CSV; every CSV cell is text.
        columns: our name -> the file's column.
        optional: our names that may be absent.
        bounds: times outside of which rows may be left out (`parquet_parts`); they are not, where that is not cheap.
    """
    if not _is_parquet(file):
        with told(file, csv):
            frame = scan_csv(file, csv)
            found = _names(frame)
        named = [pl.col(theirs).alias(ours) for ours, theirs in choose(file, columns, optional, found).items()]
        yield frame.select(*named, pl.col(ROW_INDEX).alias(ROW))
        return
    chosen = choose(file, columns, optional, table_columns(file, csv))
    for before, part in parquet_parts(file, chosen, bounds):
        yield part.lazy().with_row_index(ROW, before + 1).select(*chosen, ROW)


def _names(frame: pl.LazyFrame) -> list[str]:
    """The columns of a scanned CSV file."""
    return [name for name in frame.collect_schema().names() if name != ROW_INDEX]


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() in PARQUET


def _kind(file: Path) -> str:
    return "Parquet" if _is_parquet(file) else "CSV"
