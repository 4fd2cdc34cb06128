"""CSV tables: every cell is text; what is wrong with a file is told with its line."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from st_pipeline.errors import InputError

NULL_VALUES = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-"]
ROW_INDEX = "__row__"
UTF8 = {"utf8", "utf8sig", "ascii", "usascii"}
SIGNATURES = {b"PAR1": "a Parquet file; end its name in .parquet", b"PK\x03\x04": "a spreadsheet or a zip archive"}
BLOCK = 1 << 22  # bytes of text checked at a time


@dataclass(frozen=True)
class CsvOptions:
    """How a CSV file is written."""

    delimiter: str = ","
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = tuple(NULL_VALUES)

    @property
    def is_utf8(self) -> bool:
        return self.encoding.lower().replace("-", "").replace("_", "") in UTF8


def is_encoding(name: str) -> bool:
    """Whether text can be in this encoding."""
    try:
        b" ".decode(name)
    except UnicodeError:
        return True
    except (LookupError, ValueError):
        return False
    return bool(name)


def scan_csv(file: Path, options: CsvOptions) -> pl.LazyFrame:
    """All columns as text, and `ROW_INDEX` from 1.

    Raises:
        InputError: the file is empty or no text, is not in the encoding it is said to be, or names a column twice.
    """
    if file.stat().st_size == 0:
        raise InputError(f"{file}: is empty; expected a header and rows")
    with file.open("rb") as handle:
        if found := SIGNATURES.get(handle.read(4)):
            raise InputError(f"{file}: expected CSV, found {found}")
    source: Path | bytes = file
    if options.is_utf8:
        _check_utf8(file)
    else:
        source = _as_utf8(file, options.encoding)
    frame = pl.scan_csv(
        source,
        separator=options.delimiter,
        infer_schema=False,
        null_values=list(options.null_values),
        row_index_name=ROW_INDEX,
        row_index_offset=1,
        truncate_ragged_lines=False,
        glob=False,
    )
    names = frame.collect_schema().names()
    if twice := [name for name in names if f"{name}_duplicated_0" in names]:
        raise InputError(f"{file}: line 1: there are two columns {twice[0]!r}; expected each name once")
    if any("\r" in name for name in names):
        raise InputError(f"{file}: its lines end with a carriage return alone; save it with ordinary line ends")
    return frame


def first_fault(file: Path, options: CsvOptions) -> str | None:
    """What is wrong with the first line that is no CSV, for a file that could not be read; None if nothing is found."""
    width = None
    encoding = "utf-8-sig" if options.is_utf8 else options.encoding
    with open_bytes(file) as raw, TextIOWrapper(raw, encoding, errors="replace", newline="") as text:
        rows = csv.reader(text, delimiter=options.delimiter, strict=True)
        begin = 1
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return None
            except csv.Error as error:
                return f"line {begin}: {_reason(str(error))}"
            width = width or len(row)
            if len(row) > width:
                return f"line {begin}: found {len(row)} fields, expected {width} as in the header"
            begin = rows.line_num + 1


def _reason(complaint: str) -> str:
    if "unexpected end of data" in complaint:
        return "a quotation mark is opened here and never closed"
    if "expected after" in complaint:
        return "there is text behind a closing quotation mark"
    return complaint


def open_bytes(file: Path) -> BinaryIO:
    """The content of a file, unpacked if it is gzip or Zstandard."""
    with file.open("rb") as handle:
        head = handle.read(4)
    if head[:2] == b"\x1f\x8b":
        return BufferedReader(gzip.open(file, "rb"))
    if head == b"\x28\xb5\x2f\xfd":
        return BytesIO(pa.input_stream(str(file), compression="zstd").read())
    return file.open("rb")


def _as_utf8(file: Path, encoding: str) -> bytes:
    try:
        with open_bytes(file) as handle:
            return handle.read().decode(encoding).encode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{file}: line {line}: is not {encoding}; set source.encoding") from None


def _check_utf8(file: Path) -> None:
    """Refuse bytes that are not UTF-8, and NUL, naming the line."""
    line = 1
    with open_bytes(file) as handle:
        for block in _blocks(handle):
            try:
                block.decode("utf-8")
            except UnicodeDecodeError as error:
                line += block[: error.start].count(b"\n")
                raise InputError(
                    f"{file}: line {line}: byte 0x{block[error.start]:02x} is not UTF-8; "
                    "save the file as UTF-8 or set source.encoding"
                ) from None
            if (place := block.find(0)) >= 0:
                line += block[:place].count(b"\n")
                raise InputError(
                    f"{file}: line {line}: found a NUL byte; save the file as UTF-8 or set source.encoding"
                )
            line += block.count(b"\n")


def _blocks(handle: BinaryIO) -> Iterator[bytes]:
    """Pieces of a file that end with a line."""
    while lines := handle.readlines(BLOCK):
        yield b"".join(lines)
