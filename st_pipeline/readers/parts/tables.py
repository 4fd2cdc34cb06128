"""Opening tables: CSV and Parquet files as lazy frames of known columns, every fault told with file and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError, closest

NULL_VALUES = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-"]
ROW = "row"


@dataclass(frozen=True)
class CsvOptions:
    """How a CSV file is written."""

    delimiter: str = ","
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = tuple(NULL_VALUES)


@contextmanager
def told(file: Path) -> Iterator[None]:
    """Turn a decoder's or the file system's complaint into one sentence naming the file."""
    try:
        yield
    except InputError:
        raise
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(f"{file}: cannot be read as {file.suffix.lstrip('.') or 'a table'}: {reason}") from None


def open_table(file: Path, columns: Mapping[str, str], optional: set[str], csv: CsvOptions) -> pl.LazyFrame:
    """The named columns of one file under our names, plus `row` (1 is the first data row).

    Args:
        file: a Parquet file if its name ends so, else CSV; every CSV cell is text.
        columns: our name -> the file's column.
        optional: our names that may be absent.
    """
    with told(file):
        frame = scan(file, csv)
        found = frame.collect_schema().names()
    chosen: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs in found:
            chosen[ours] = theirs
        elif ours not in optional:
            what = f"column {theirs!r}" + (f" (for {ours})" if ours != theirs else "")
            raise InputError(f"{file}: there is no {what}; {closest(theirs, [name for name in found if name != ROW])}")
    return frame.select([pl.col(theirs).alias(ours) for ours, theirs in chosen.items()] + [pl.col(ROW)])


def scan(file: Path, csv: CsvOptions) -> pl.LazyFrame:
    """All columns of a table, and `row`; every cell of a CSV file is text.

    Raises:
        InputError: the file is empty, or is not in the encoding it is said to be.
    """
    if file.stat().st_size == 0:
        raise InputError(f"{file}: is empty; expected a header and rows")
    return _scan_parquet(file) if file.suffix.lower() in {".parquet", ".pq"} else _scan_csv(file, csv)


def _scan_parquet(file: Path) -> pl.LazyFrame:
    return pl.scan_parquet(file, row_index_name=ROW, row_index_offset=1, glob=False)


def _scan_csv(file: Path, csv: CsvOptions) -> pl.LazyFrame:
    if csv.encoding.lower().replace("-", "").replace("_", "") in {"utf8", "utf8sig", "ascii"}:
        _check_utf8(file)
        source: Path | bytes = file
    else:
        try:
            source = file.read_bytes().decode(csv.encoding).encode()
        except LookupError:
            raise InputError(
                f"{file}: there is no encoding {csv.encoding!r}; expected one such as utf-8 or latin-1"
            ) from None
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: byte {error.start} is not {csv.encoding}; set source.encoding") from None
    return pl.scan_csv(
        source,
        separator=csv.delimiter,
        infer_schema=False,
        null_values=list(csv.null_values),
        row_index_name=ROW,
        row_index_offset=1,
        truncate_ragged_lines=False,
        glob=False,
    )


def _check_utf8(file: Path) -> None:
    """Refuse bytes that are not UTF-8, naming the line; compressed files are left to the decoder."""
    with file.open("rb") as handle:
        head = handle.read(4)
        if head[:2] == b"\x1f\x8b" or head == b"\x28\xb5\x2f\xfd":
            return
        handle.seek(0)
        line = 1
        while block := handle.readlines(1 << 22):
            try:
                b"".join(block).decode("utf-8")
            except UnicodeDecodeError:
                for raw in block:
                    try:
                        raw.decode("utf-8")
                    except UnicodeDecodeError as error:
                        found = f"0x{raw[error.start]:02x}"
                        raise InputError(
                            f"{file}: line {line}: byte {found} is not UTF-8; "
                            "save the file as UTF-8 or set source.encoding"
                        ) from None
                    line += 1
            line += len(block)
