"""Text tables of archives: every cell is text first; what is no number is told with its row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError, closest
from st_pipeline.readers.base import SENSOR_SCHEMA
from st_pipeline.readers.parts.columns import RAW, TimeFormat, is_zoned, number, refuse_unread, time
from st_pipeline.readers.parts.csv_table import CsvOptions, open_bytes, scan_csv
from st_pipeline.readers.parts.tables import told


def texts(file: Path, *, header: bool = True, delimiter: str = ",", least: int = 1) -> pl.DataFrame:
    """All columns as text, plain or gzip; without a header they are called column_1, column_2, ...

    Raises:
        InputError: the file is not there, is no table, or has less than `least` rows.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    if header:
        with told(file, CsvOptions(delimiter)):
            frame = scan_csv(file, CsvOptions(delimiter)).drop("__row__").collect()
    else:
        with told(file), open_bytes(file) as handle:
            content = handle.read()
            if not content.strip():
                raise InputError(f"{file}: is empty; expected rows")
            frame = pl.read_csv(
                content, has_header=False, separator=delimiter, infer_schema=False, truncate_ragged_lines=True
            )
        frame.columns = [f"column_{place}" for place in range(1, len(frame.columns) + 1)]
    if len(frame) < least:
        raise InputError(f"{file}: has no rows; expected at least one")
    return frame.rename({name: name.strip() for name in frame.columns})


def has_header(file: Path, *, place: int) -> bool:
    """Whether the cell of the first row in a column, counted from 0, is no number."""
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    with told(file), open_bytes(file) as raw, TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
        first = next(csv.reader(text), [])
    try:
        float(first[place]) if place < len(first) else float("x")
    except ValueError:
        return True
    return False


def need(frame: pl.DataFrame, names: Sequence[str], file: Path) -> None:
    """Refuse a table without one of the columns."""
    if absent := [name for name in names if name not in frame.columns]:
        raise InputError(f"{file}: there is no column {absent[0]!r}; {closest(absent[0], frame.columns)}")


def numbers(frame: pl.DataFrame, names: Sequence[str], file: Path, *, least: float | None = None) -> pl.DataFrame:
    """The named columns as Float64; an empty cell is null.

    Raises:
        InputError: a column is missing, or a cell holds no number, an infinite one or one below `least`.
    """
    need(frame, names, file)
    raw = frame.select(names).with_row_index("row", 1)
    found = raw.with_columns(pl.col(name).alias(RAW + name) for name in names)
    found = found.with_columns(number(name, frame.schema[name]).cast(pl.Float64) for name in names)
    refuse_unread(found, file, dict.fromkeys(names, "a number"))
    for name in names:
        bad = pl.col(name).is_infinite() if least is None else pl.col(name).is_infinite() | (pl.col(name) < least)
        if len(rows := found.filter(bad)):
            expected = "a finite number" if least is None else f"a finite number of at least {least:g}"
            raise InputError(f"{file}: data row {rows['row'][0]}: {name}: found {rows[name][0]}, expected {expected}")
    return found.select(names)


def sensor_table(ids: Sequence[str], facts: pl.DataFrame) -> pl.DataFrame:
    """A row for each sensor of the readings, with its facts where there are some."""
    listed = pl.DataFrame({"sensor_id": list(ids)}, schema={"sensor_id": pl.String})
    joined = listed.join(facts.unique("sensor_id", keep="first"), on="sensor_id", how="left", maintain_order="left")
    known = [name for name in SENSOR_SCHEMA if name in joined.columns]
    return joined.select(known)


def stamps(frame: pl.DataFrame, name: str, file: Path, style: TimeFormat | None = None) -> pl.Series:
    """A column of times as `timestamp`: naive labels in milliseconds; those with an offset in UTC.

    Raises:
        InputError: a cell is empty or no time.
    """
    need(frame, (name,), file)
    style = style or TimeFormat()
    filled = frame[name].drop_nulls()
    zoned = bool(len(filled)) and is_zoned(filled[0], style)
    found = frame.select(time(name, frame.schema[name], style, zoned=zoned))[name]
    if found.null_count():
        row = int(found.is_null().arg_true()[0])
        shown = frame[name][row]
        raise InputError(
            f"{file}: data row {row + 1}: {name}: found {'nothing' if shown is None else repr(shown[:60])}, "
            f"expected {style.expected()}"
        )
    return found.dt.replace_time_zone(None).alias("timestamp")
