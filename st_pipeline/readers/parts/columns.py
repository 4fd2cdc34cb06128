"""Reading columns: ids as text, numbers as floats, times as instants or wall-clock labels; one sentence per fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.errors import InputError

NAMES = pl.Categorical()  # of sensors and files: many rows, few values
RAW = "__raw_"  # prefix of the columns that keep what the file said
EXPECTED_TIME = "a time such as 2024-01-31 13:00"
OFFSET = r"(?:[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?)"
ISO = (  # one after the other: what ISO 8601 allows -> what is read
    (r"^(\d{4}-\d{2}-\d{2})[Tt]", "${1} "),
    (r"^(\d{4}-\d{2}-\d{2})$", "${1} 00:00:00"),
    (r"^(\S+ \d{2}:\d{2}:\d{2}),(\d)", "${1}.${2}"),
    (r"^(\S+ \d{2}:\d{2})(\s*(?:[ZzUG+-].*)?)$", "${1}:00${2}"),
)
ISO_OFFSET = (
    (r"\s*(?:[Zz]|UTC|GMT)$", "+00:00"),
    (r"\s*([+-]\d{2})$", "${1}:00"),
    (r"\s*([+-]\d{2}):?(\d{2})$", "${1}:${2}"),
)


@dataclass(frozen=True)
class TimeFormat:
    """How timestamps are written: ISO 8601 unless a `strptime` format or an epoch unit is given."""

    pattern: str | None = None
    unit: str | None = None

    def expected(self, *, zoned: bool | None = None) -> str:
        """What is expected of a cell, for the sentence; `zoned` says how the first cell of a text column is written."""
        if self.pattern:
            return f"a time written as source.time_format says, {self.pattern!r}"
        if self.unit:
            return f"a number of {self.unit} since 1970 (source.time_unit)"
        if zoned is None:
            return f"{EXPECTED_TIME}; set source.time_format or source.time_unit for others"
        example = "2024-01-31 13:00+01:00, with a UTC offset" if zoned else "2024-01-31 13:00, without a UTC offset"
        return f"a time such as {example} as in the first row; set source.time_format or source.time_unit for others"


def text(name: str, dtype: pl.DataType) -> pl.Expr:
    """An identifier as text: numbers keep their digits, a whole float loses its `.0`, blanks are null."""
    column = pl.col(name)
    if dtype.is_float():
        column = column.fill_nan(None)
        whole = pl.when(column == column.round(0)).then(column.cast(pl.Int64, strict=False).cast(pl.String))
        column = pl.coalesce(whole, column.cast(pl.String))
    stripped = column.cast(pl.String).str.strip_chars()
    return pl.when(stripped == "").then(None).otherwise(stripped).alias(name)


def names(found: pl.Series) -> pl.Series:
    """`text` of a column with few different values, as categories: each value is looked at once."""
    if found.dtype not in (pl.String, pl.Categorical):
        return found.to_frame().select(text(found.name, found.dtype))[found.name].cast(NAMES)
    coded = found.cast(NAMES)
    codes = coded.to_physical()
    each = coded.unique().drop_nulls()
    written = each.cast(pl.String).to_frame(found.name).select(text(found.name, pl.String()))[found.name].cast(NAMES)
    if each.equals(written):
        return coded
    by_code = np.zeros(int(codes.max() or 0) + 1, dtype=np.uint32)  # type: ignore[arg-type]
    by_code[each.to_physical().to_numpy()] = np.arange(len(each))
    return written.gather(pl.Series(by_code).gather(codes)).alias(found.name)


def number(name: str, dtype: pl.DataType, *, decimal_comma: bool = False) -> pl.Expr:
    """A number; floats keep their width, everything else becomes Float64, what is no number becomes null."""
    column = pl.col(name)
    if dtype.is_float():
        return column.fill_nan(None).alias(name)
    if dtype in (pl.String, pl.Categorical):
        column = column.cast(pl.String).str.strip_chars()
        if decimal_comma:
            column = column.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    elif dtype.is_temporal():
        column = pl.lit(None, dtype=pl.String)
    return column.cast(pl.Float64, strict=False).fill_nan(None).alias(name)


def time(name: str, dtype: pl.DataType, style: TimeFormat, *, zoned: bool = False) -> pl.Expr:
    """A timestamp: Datetime(ms), with time zone UTC where the file gives an offset, else a wall-clock label.

    Args:
        zoned: text carries a UTC offset or `Z`.
    """
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        instant = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
        return instant.dt.cast_time_unit("ms").alias(name)
    if dtype == pl.Date:
        return column.cast(pl.Datetime("ms")).alias(name)
    if style.unit:
        scale = {"s": 1000.0, "ms": 1.0, "us": 0.001}[style.unit]
        count = (column.cast(pl.Float64, strict=False) * scale).round(0).cast(pl.Int64, strict=False)
        return count.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").alias(name)
    if dtype not in (pl.String, pl.Categorical):
        return pl.lit(None, dtype=pl.Datetime("ms")).alias(name)
    kind = pl.Datetime("ms", "UTC") if zoned else pl.Datetime("ms")
    label = column.cast(pl.String).str.strip_chars()
    if style.pattern:
        return label.str.strptime(kind, style.pattern, strict=False).alias(name)
    for found, written in (*ISO, *(ISO_OFFSET if zoned else ())):
        label = label.str.replace(found, written)
    return label.str.strptime(kind, "%Y-%m-%d %H:%M:%S%.f" + ("%:z" if zoned else ""), strict=False).alias(name)


def is_zoned(label: str | None, style: TimeFormat) -> bool:
    """Whether timestamps written like this one carry a UTC offset."""
    if style.pattern:
        return "%z" in style.pattern
    return bool(label and re.search(rf"\d{{2}}:\d{{2}}.*?{OFFSET}$", label.strip()))


def refuse_unread(frame: pl.DataFrame, file: Path, kinds: dict[str, str]) -> None:
    """Fail on the first cell that the file fills and the reader could not read.

    Args:
        frame: columns as read, and as the file had them under `RAW` + name.
        kinds: column -> what was expected, for the sentence.
    """
    for name, expected in kinds.items():
        if RAW + name not in frame.columns:
            continue
        raw = pl.col(RAW + name)
        filled = raw.is_not_null() & ~raw.cast(pl.String).str.strip_chars().is_in(["", "NaN", "nan", "NAN"])
        bad = frame.filter(pl.col(name).is_null() & filled)
        if len(bad):
            found = str(bad[RAW + name][0])[:60]
            more = f" (and {len(bad) - 1:,} more such rows)" if len(bad) > 1 else ""
            raise InputError(f"{file}: data row {bad['row'][0]}: {name}: found {found!r}, expected {expected}{more}")
