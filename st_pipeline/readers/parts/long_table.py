"""Long tables: one row per sensor and time, in one file or many, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.config import READING_COLUMNS, RESERVED
from st_pipeline.errors import InputError
from st_pipeline.periods import Period
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA, Reader, SourceContext
from st_pipeline.readers.parts.columns import RAW, TimeFormat, is_zoned, number, refuse_unread, text, time
from st_pipeline.readers.parts.tables import ROW, CsvOptions, open_table, told

EXPECTED_TIME = "a time such as 2024-01-31 13:00 or 2024-01-31T13:00:00+01:00 (set source.time_format for others)"


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

    @property
    def has_edges(self) -> bool:  # type: ignore[override]
        return self.patterns["edges"] is not None

    def files(self) -> list[Path]:
        return [file for field in self.patterns for file in self._files(field)]

    def readings(self, period: Period) -> pl.DataFrame:
        config = self.context.config
        names = [name for name in config.source.columns if name not in RESERVED] or ["value"]
        frames = [self._readings_of(file, period, names) for file in self._files("readings")]
        kinds = {frame.schema["timestamp"] for frame in frames if len(frame)}
        if len(kinds) > 1:
            raise InputError(
                f"stream {config.name!r}: some files give times with a UTC offset, some without; write all alike"
            )
        frames = [frame for frame in frames if len(frame)] or frames[:1]
        return pl.concat(frames, how="diagonal_relaxed")

    def sensors(self) -> pl.DataFrame:
        files = self._files("sensors")
        if not files:
            return pl.DataFrame(schema=SENSOR_SCHEMA)
        columns = {name: self.context.column(name) for name in SENSOR_SCHEMA}
        return pl.concat([self._facts(file, columns, SENSOR_SCHEMA, {"sensor_id"}) for file in files])

    def edges(self, period: Period) -> pl.DataFrame:
        files = self._files("edges")
        if not files:
            return super().edges(period)
        columns = {name: self.context.column(name) for name in EDGE_SCHEMA}
        return pl.concat([self._facts(file, columns, EDGE_SCHEMA, {"source", "target"}) for file in files])

    def _files(self, field: str) -> list[Path]:
        pattern = self.patterns[field]
        return self.context.find(pattern, field) if pattern else []

    def _readings_of(self, file: Path, period: Period, names: list[str]) -> pl.DataFrame:
        """Rows of one file that belong to the period by their label."""
        columns = {name: self.context.column(name) for name in (*READING_COLUMNS, *names)}
        lazy = open_table(file, columns, {"received"}, self.style.csv)
        with told(file):
            schema = lazy.collect_schema()
            read = [text("sensor_id", schema["sensor_id"]), self._time(lazy, "timestamp", schema)]
            if "received" in schema:
                read.append(self._time(lazy, "received", schema))
            read += [number(name, schema[name], decimal_comma=self.style.decimal_comma) for name in names]
            raw = [pl.col(name).alias(RAW + name) for name in ("timestamp", *names) if not schema[name].is_float()]
            rows = lazy.with_columns(raw).with_columns(read)
            kind = rows.collect_schema()["timestamp"]
            frame = rows.filter(self._inside(kind, period) | pl.col("timestamp").is_null()).collect()
        expected = {"timestamp": EXPECTED_TIME} | dict.fromkeys(names, "a number")
        refuse_unread(frame, file, expected)
        if len(blank := frame.filter(pl.col("timestamp").is_null())):
            raise InputError(f"{file}: row {blank[ROW][0]}: timestamp: found nothing, expected {EXPECTED_TIME}")
        return frame.select(
            "sensor_id",
            "timestamp",
            *(["received"] if "received" in frame.columns else []),
            *names,
            pl.lit(file.name).alias("file"),
            ROW,
        )

    def _time(self, lazy: pl.LazyFrame, name: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
        zoned = False
        if schema[name] == pl.String:
            first = lazy.select(name).drop_nulls().head(1).collect()
            zoned = is_zoned(first[name][0] if len(first) else None, self.style.time)
        return time(name, schema[name], self.style.time, zoned=zoned)

    def _inside(self, kind: pl.DataType, period: Period) -> pl.Expr:
        """Labels whose interval begins in the period; a wall-clock label is compared with the wall clock."""
        shift = self.context.config.step if self.context.config.source.interval == "end" else timedelta(0)
        bounds: list[datetime] = [period.start, period.end]
        if not getattr(kind, "time_zone", None):
            bounds = [moment.replace(tzinfo=None) for moment in bounds]
        label = pl.col("timestamp") - shift
        return (label >= bounds[0]) & (label < bounds[1])

    def _facts(
        self,
        file: Path,
        columns: Mapping[str, str],
        schema: Mapping[str, pl.DataType | type[pl.DataType]],
        needed: set[str],
    ) -> pl.DataFrame:
        """A small table of facts: ids as text, numbers, dates; columns the file lacks are null."""
        mapped = {name for name in schema if name in self.context.config.source.columns}
        lazy = open_table(file, columns, set(schema) - needed - mapped, self.style.csv)
        with told(file):
            found = lazy.collect_schema()
            read = []
            for name, dtype in found.items():
                kind = schema.get(name)
                if kind == pl.String:
                    read.append(text(name, dtype))
                elif kind == pl.Float64:
                    read.append(number(name, dtype, decimal_comma=self.style.decimal_comma).cast(pl.Float64))
                elif kind == pl.Date:
                    read.append(time(name, dtype, TimeFormat()).cast(pl.Date))
            raw = [pl.col(name).alias(RAW + name) for name in found.names() if name != ROW]
            frame = lazy.with_columns(raw).with_columns(read).collect()
        dates = {name: "a date such as 2024-01-31" for name, kind in schema.items() if kind == pl.Date}
        refuse_unread(frame, file, {name: "a number" for name, kind in schema.items() if kind == pl.Float64} | dates)
        absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in schema.items() if name not in frame.columns]
        frame = frame.with_columns(absent)
        for name in needed:
            if len(blank := frame.filter(pl.col(name).is_null())):
                raise InputError(f"{file}: row {blank[ROW][0]}: {name}: found nothing, expected an id")
        return frame.select(list(schema))
