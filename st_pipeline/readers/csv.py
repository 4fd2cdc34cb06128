"""Long tables in CSV: one row per sensor and time, one file or many, plain or compressed."""

from __future__ import annotations

from typing import Literal

from st_pipeline.readers.base import SourceContext
from st_pipeline.readers.parts.columns import TimeFormat
from st_pipeline.readers.parts.csv_table import NULL_VALUES, CsvOptions
from st_pipeline.readers.parts.long_table import LongTableReader, TableStyle
from st_pipeline.registry import READERS


@READERS.register
class CsvReader(LongTableReader):
    """Every cell is read as text first, so that ids keep their zeros and a bad number is told with its row."""

    def __init__(
        self,
        context: SourceContext,
        *,
        readings: str,
        sensors: str | None = None,
        edges: str | None = None,
        delimiter: str = ",",
        encoding: str = "utf-8",
        decimal_comma: bool = False,
        time_format: str | None = None,
        time_unit: Literal["s", "ms", "us"] | None = None,
        null_values: list[str] | None = None,
    ) -> None:
        csv = CsvOptions(delimiter, encoding, tuple(NULL_VALUES if null_values is None else null_values))
        style = TableStyle(csv, TimeFormat(time_format, time_unit), decimal_comma)
        super().__init__(context, readings=readings, sensors=sensors, edges=edges, style=style)
