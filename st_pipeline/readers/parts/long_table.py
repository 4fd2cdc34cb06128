"""Long tables: one row per sensor and time, in one file or many, CSV or Parquet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from st_pipeline.data_config import READING_COLUMNS
from st_pipeline.errors import InputError
from st_pipeline.periods import Period
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA, UNIT_SCHEMA, Reader, SourceContext
from st_pipeline.readers.parts.columns import NAMES, RAW, TimeFormat, is_zoned, number, refuse_unread, text, time
from st_pipeline.readers.parts.columns import names as as_names
from st_pipeline.readers.parts.csv_table import CsvOptions, is_encoding
from st_pipeline.readers.parts.tables import ROW, open_table, told


@dataclass(frozen=True)
class TableStyle:
    """How the tables of a source are written."""

    csv: CsvOptions = field(default_factory=CsvOptions)
    time: TimeFormat = field(default_factory=TimeFormat)
    decimal_comma: bool = False


class LongTableReader(Reader):
    """Readings, sensors and edges in tables whose columns the stream file names.

    Args:
        context: the stream's configuration and folders.
        readings, sensors, edges: relative file patterns.
    """

    def __init__(
        self, context: SourceContext, *, readings: str, sensors: str | None, edges: str | None, style: TableStyle
    ) -> None:
        self.context = context
        self.patterns = {"readings": readings, "sensors": sensors, "edges": edges}
        self.style = style
        self._check_style()

    @property
    def has_edges(self) -> bool:  # type: ignore[override]
        return self.patterns["edges"] is not None

    def files(self) -> list[Path]:
        return [file for field in self.patterns for file in self._files(field)]

    def periods_of(self, file: Path, periods: Sequence[Period]) -> list[str] | None:
        if file not in self._files("readings"):
            return None
        columns = {name: self.context.column(name) for name in ("sensor_id", "timestamp")}
        found: set[str] = set()
        with told(file, self.style.csv):
            zoned: dict[str, bool] = {}
            for part in open_table(file, columns, set(), self.style.csv):
                label, schema = pl.col("timestamp"), part.collect_schema()
                self._note_zone(part, "timestamp", zoned)
                read = time("timestamp", schema["timestamp"], self.style.time, zoned=zoned.get("timestamp", False))
                timed = part.select(label.alias(f"{RAW}timestamp"), read, ROW).collect()
                refuse_unread(timed, file, {"timestamp": self.style.time.expected(zoned=zoned.get("timestamp"))})
                kind = timed.schema["timestamp"]
                inside = timed.select(self._inside(kind, period).any().alias(period.key) for period in periods)
                found |= {period.key for period in periods if inside[period.key][0]}
        return [period.key for period in periods if period.key in found]

    def readings(self, period: Period) -> pl.DataFrame:
        config = self.context.config
        names = config.source.variables
        frames = [self._readings_of(file, period, names) for file in self._files("readings")]
        frames = [frame for frame in frames if len(frame)] or frames[:1]
        for name in ("timestamp", "received"):
            if len({frame.schema[name] for frame in frames if name in frame.columns}) > 1:
                raise InputError(
                    f"stream {config.name!r}: some files give {name} with a UTC offset, some without; write all alike"
                )
        return pl.concat(frames, how="diagonal_relaxed")

    def sensors(self) -> pl.DataFrame:
        files = self._files("sensors")
        if not files:
            return pl.DataFrame(schema=SENSOR_SCHEMA)
        return pl.concat([self.sensor_table(file) for file in files], how="diagonal")

    def sensor_table(self, file: Path) -> pl.DataFrame:
        """Static facts from one table, as `sensors` gives them.

        Raises:
            InputError: the file cannot be read, or holds something else.
        """
        columns = {name: self.context.column(name) for name in SENSOR_SCHEMA} | {name: name for name in UNIT_SCHEMA}
        frame = self._facts(file, columns, {**SENSOR_SCHEMA, **UNIT_SCHEMA}, {"sensor_id"})
        if len(bad := frame.filter(pl.col("unit_factor") <= 0)):
            raise InputError(
                f"{file}: sensor {bad['sensor_id'][0]!r}: unit_factor: found {bad['unit_factor'][0]:g}, expected a "
                "number above 0 that its readings are multiplied by"
            )
        return frame if frame["unit_factor"].is_not_null().any() else frame.drop(*UNIT_SCHEMA)

    def edges(self, period: Period) -> pl.DataFrame:
        files = self._files("edges")
        if not files:
            return super().edges(period)
        columns = {name: self.context.column(name) for name in EDGE_SCHEMA}
        return pl.concat([self._facts(file, columns, EDGE_SCHEMA, {"source", "target"}, least=0) for file in files])

    def _check_style(self) -> None:
        style, refuse = self.style, self.context.refuse
        if len(style.csv.delimiter.encode()) != 1 or style.csv.delimiter in '"\r\n':
            hint = "one character such as ',' or ';', or \"\\t\" in double quotes for a tab"
            raise refuse("delimiter", style.csv.delimiter, hint)
        if not is_encoding(style.csv.encoding):
            raise refuse("encoding", style.csv.encoding, "one such as utf-8 or latin-1")
        if style.time.pattern is not None and "%" not in style.time.pattern:
            raise refuse("time_format", style.time.pattern, "one such as '%d.%m.%Y %H:%M'")
        if style.time.pattern is not None and style.time.unit is not None:
            raise refuse("time_format", style.time.pattern, "either a time_format or a time_unit, not both")

    def _files(self, field: str) -> list[Path]:
        pattern = self.patterns[field]
        return [] if pattern is None else self.context.find(pattern, field)

    def _readings_of(self, file: Path, period: Period, names: list[str]) -> pl.DataFrame:
        """Rows of one file that belong to the period by their label."""
        columns = {name: self.context.column(name) for name in (*READING_COLUMNS, *names)}
        parts = []
        with told(file, self.style.csv):
            zoned: dict[str, bool] = {}
            bounds = {} if self.style.time.unit else {"timestamp": self._bounds(period)}
            for part in open_table(file, columns, {"received"}, self.style.csv, bounds=bounds):
                parts.append(self._part(part, period, names, zoned))
        frame = pl.concat(parts)
        times = {name: self.style.time.expected(zoned=zoned.get(name)) for name in ("timestamp", "received")}
        refuse_unread(frame, file, times | dict.fromkeys(names, "a number"))
        if len(blank := frame.filter(pl.col("timestamp").is_null())):
            raise InputError(
                f"{file}: data row {blank[ROW][0]}: timestamp: found nothing, expected {times['timestamp']}"
            )
        read = [name for name in ("sensor_id", "timestamp", "received", *names) if name in frame.columns]
        return frame.select(*read, pl.lit(self.context.label(file), dtype=NAMES).alias("file"), ROW)

    def _part(self, part: pl.LazyFrame, period: Period, names: list[str], zoned: dict[str, bool]) -> pl.DataFrame:
        """Rows of one part of a file, as read and as the file had them; `zoned` is filled with how text is written."""
        schema = part.collect_schema()
        times = [name for name in ("timestamp", "received") if name in schema]
        for name in times:
            self._note_zone(part, name, zoned)
        typed = [name for name in times if schema[name].is_temporal()]
        typed += [name for name in names if schema[name].is_float()]
        raw = [pl.col(name).alias(RAW + name) for name in (*times, *names) if name not in typed]
        read = [time(name, schema[name], self.style.time, zoned=zoned.get(name, False)) for name in times]
        timed = part.with_columns(raw).with_columns(read).collect()
        inside = timed.select(self._inside(timed.schema["timestamp"], period) | pl.col("timestamp").is_null())
        if not inside.to_series().all():
            timed = timed.filter(inside.to_series())
        numbers = [number(name, schema[name], decimal_comma=self.style.decimal_comma) for name in names]
        return timed.with_columns(as_names(timed["sensor_id"]), *numbers)

    def _note_zone(self, part: pl.LazyFrame, name: str, zoned: dict[str, bool]) -> None:
        """Note whether a column of times that is text carries UTC offsets, from the first cell of the file."""
        if part.collect_schema()[name] in (pl.String, pl.Categorical) and name not in zoned:
            first = part.select(pl.col(name).cast(pl.String)).drop_nulls().head(1).collect()
            zoned[name] = is_zoned(first[name][0] if len(first) else None, self.style.time)

    def _bounds(self, period: Period) -> tuple[datetime, datetime]:
        """Labels that may belong to the period, whether they are on the clock or in UTC."""
        lag = self.context.config.label_lag
        moments = [
            (start.replace(tzinfo=None), start.astimezone(UTC).replace(tzinfo=None))
            for start in (period.start, period.end)
        ]
        return min(moments[0]) + lag, max(moments[1]) + lag

    def _inside(self, kind: pl.DataType, period: Period) -> pl.Expr:
        """Labels whose interval begins in the period; a wall-clock label is compared with the wall clock."""
        label = pl.col("timestamp") - self.context.config.label_lag
        start, end = (
            moment.astimezone(UTC) if getattr(kind, "time_zone", None) else moment.replace(tzinfo=None)
            for moment in (period.start, period.end)
        )
        return (label >= start) & (label < end)

    def _facts(
        self,
        file: Path,
        columns: Mapping[str, str],
        schema: Mapping[str, pl.DataType | type[pl.DataType]],
        needed: set[str],
        least: float = -math.inf,
    ) -> pl.DataFrame:
        """A small table of facts: ids as text, numbers from `least` on, dates; columns the file lacks are null."""
        mapped = {name for name in schema if name in self.context.config.source.columns} - set(UNIT_SCHEMA)
        with told(file, self.style.csv):
            optional = set(schema) - needed - mapped
            frame = pl.concat(
                [self._fact(part, schema) for part in open_table(file, columns, optional, self.style.csv)]
            )
        dates = {name: "a date such as 2024-01-31" for name, kind in schema.items() if kind == pl.Date}
        numbers = [name for name, kind in schema.items() if kind == pl.Float64 and name in frame.columns]
        refuse_unread(frame, file, dict.fromkeys(numbers, "a number") | dates)
        for name in numbers:
            if len(endless := frame.filter(pl.col(name).is_infinite())):
                row, found = endless[ROW][0], endless[name][0]
                raise InputError(f"{file}: data row {row}: {name}: found {found}, expected a finite number")
            if len(low := frame.filter(pl.col(name) < least)):
                row, found = low[ROW][0], low[name][0]
                raise InputError(f"{file}: data row {row}: {name}: found {found}, expected at least {least:g}")
        for name in needed:
            if len(blank := frame.filter(pl.col(name).is_null())):
                raise InputError(f"{file}: data row {blank[ROW][0]}: {name}: found nothing, expected an id")
        absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in schema.items() if name not in frame.columns]
        return frame.with_columns(absent).select(list(schema))

    def _fact(self, part: pl.LazyFrame, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
        """One part of a table of facts, as read and as the file had it."""
        read = []
        for name, dtype in (found := part.collect_schema()).items():
            kind = schema.get(name)
            if kind == pl.String:
                read.append(text(name, dtype))
            elif kind == pl.Float64:
                read.append(number(name, dtype, decimal_comma=self.style.decimal_comma).cast(pl.Float64))
            elif kind == pl.Date:
                read.append(time(name, dtype, TimeFormat()).cast(pl.Date))
        raw = [pl.col(name).alias(RAW + name) for name in found.names() if name != ROW]
        return part.with_columns(raw).with_columns(read).collect()
