"""Reading columns: ids as text, numbers as floats, times as instants or wall-clock labels; one sentence per fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError

RAW = "__raw_"  # prefix of the columns that keep what the file said


@dataclass(frozen=True)
class TimeFormat:
    """How timestamps are written: ISO 8601 unless a `strptime` format or an epoch unit is given."""

    pattern: str | None = None
    unit: str | None = None


def text(name: str, dtype: pl.DataType) -> pl.Expr:
    """An identifier as text: numbers keep their digits, a whole float loses its `.0`, blanks are null."""
    column = pl.col(name)
    if dtype.is_float():
        column = (
            pl.when(column == column.round(0))
            .then(column.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(column.cast(pl.String))
        )
    stripped = column.cast(pl.String).str.strip_chars()
    return pl.when(stripped == "").then(None).otherwise(stripped).alias(name)


def number(name: str, dtype: pl.DataType, *, decimal_comma: bool = False) -> pl.Expr:
    """A number; floats keep their width, everything else becomes Float64, what is no number becomes null."""
    column = pl.col(name)
    if dtype.is_float():
        return column.fill_nan(None).alias(name)
    if dtype == pl.String:
        column = column.str.strip_chars()
        if decimal_comma:
            column = column.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
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
    if dtype != pl.String:
        return pl.lit(None, dtype=pl.Datetime("ms")).alias(name)
    kind = pl.Datetime("ms", "UTC") if zoned else pl.Datetime("ms")
    label = column.str.strip_chars()
    if style.pattern:
        return label.str.strptime(kind, style.pattern, strict=False).alias(name)
    label = label.str.replace("T", " ", literal=True).str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1} 00:00")
    label = label.str.replace(r"[Zz]$", "+00:00").str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
    label = label.str.replace(r"^(\S+ \d{2}:\d{2})([+-]|$)", "${1}:00${2}")
    return label.str.strptime(kind, "%Y-%m-%d %H:%M:%S%.f" + ("%:z" if zoned else ""), strict=False).alias(name)


def is_zoned(label: str | None, style: TimeFormat) -> bool:
    """Whether timestamps written like this one carry a UTC offset."""
    if style.pattern:
        return "%z" in style.pattern
    return bool(label and re.search(r"\d{2}:\d{2}.*([Zz]|[+-]\d{2}:?\d{2})$", label.strip()))


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
        filled = raw.is_not_null() & (raw.cast(pl.String) != "NaN")
        bad = frame.filter(pl.col(name).is_null() & filled)
        if len(bad):
            found = str(bad[RAW + name][0])[:60]
            more = f" (and {len(bad) - 1:,} more such rows)" if len(bad) > 1 else ""
            raise InputError(f"{file}: row {bad['row'][0]}: {name}: found {found!r}, expected {expected}{more}")
