"""Long tables in Parquet: one row per sensor and time, one file or many; sensors and edges may be CSV."""

from __future__ import annotations

from typing import Literal

from st_pipeline.readers.base import SourceContext
from st_pipeline.readers.parts.columns import TimeFormat
from st_pipeline.readers.parts.long_table import LongTableReader, TableStyle
from st_pipeline.registry import READERS


@READERS.register
class ParquetReader(LongTableReader):
    """Types are those of the file; text columns are read as in CSV."""

    def __init__(
        self,
        context: SourceContext,
        *,
        readings: str,
        sensors: str | None = None,
        edges: str | None = None,
        time_format: str | None = None,
        time_unit: Literal["s", "ms", "us"] | None = None,
    ) -> None:
        style = TableStyle(time=TimeFormat(time_format, time_unit))
        super().__init__(context, readings=readings, sensors=sensors, edges=edges, style=style)
