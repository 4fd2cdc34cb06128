"""What every reader is given and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError
from st_pipeline.periods import Period

SENSOR_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "sensor_id": pl.String,
    "latitude": pl.Float64,
    "longitude": pl.Float64,
    "x": pl.Float64,
    "y": pl.Float64,
    "installed": pl.Date,
    "retired": pl.Date,
    "valid_from": pl.Date,
    "name": pl.String,
}
UNIT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {  # beside the others, where a sensor table has factors
    "unit": pl.String,
    "unit_factor": pl.Float64,
}
EDGE_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "source": pl.String,
    "target": pl.String,
    "distance": pl.Float64,
    "weight": pl.Float64,
}


@dataclass(frozen=True)
class SourceContext:
    """A stream's configuration and the folders its raw files may lie in."""

    config: StreamConfig
    folder: Path
    data: Path
    scratch: Path

    def find(self, pattern: str, field: str) -> list[Path]:
        """Files matching a relative pattern, in the stream's folder or else under the data folder, sorted.

        Raises:
            InputError: the pattern leaves its folder, or matches nothing.
        """
        where = f"stream {self.config.name!r}: source.{field}"
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise InputError(
                f"{where}: {pattern!r} leaves the stream; expected a path relative to it or to ST_PIPELINE_DATA"
            )
        for root in self.roots:
            files = _matching(root, pattern, where)
            if strays := [path for path in files if not path.resolve().is_relative_to(root.resolve())]:
                raise InputError(f"{where}: {strays[0]} links to a file outside {root}; copy the file there instead")
            if files:
                return files
        raise InputError(
            f"{where}: no file matches {pattern!r} in {self.folder} or {self.data}; "
            "put it there or set ST_PIPELINE_DATA (or --data) to the folder that holds it"
        )

    @property
    def roots(self) -> tuple[Path, Path]:
        """Where raw files are looked up, in this order."""
        return self.folder, self.data

    def label(self, file: Path) -> str:
        """The name of a raw file that rows carry: its path below the folder it was found in."""
        root = next(root for root in self.roots if file.is_relative_to(root))
        return file.relative_to(root).as_posix()

    def refuse(self, option: str, found: object, expected: str) -> InputError:
        """The error of an option that the reader cannot use."""
        return InputError(f"stream {self.config.name!r}: source.{option}: found {found!r}, expected {expected}")

    def column(self, name: str) -> str:
        """The file's name of one of our columns."""
        return self.config.source.columns.get(name, name)


def _matching(root: Path, pattern: str, where: str) -> list[Path]:
    """Visible files below a folder, sorted."""
    if not Path(pattern).parts:
        raise InputError(f"{where}: {pattern!r} names no file; expected one such as readings.csv or readings/*.parquet")
    try:
        return sorted(path for path in root.glob(pattern) if path.is_file() and not path.name.startswith("."))
    except (ValueError, NotImplementedError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where}: {pattern[:80]!r} is no file pattern: {reason}") from None


class Reader(ABC):
    """One raw format."""

    context: SourceContext
    has_edges = False

    @abstractmethod
    def files(self) -> list[Path]:
        """Every raw file of the stream."""

    @abstractmethod
    def periods_of(self, file: Path, periods: Sequence[Period]) -> list[str] | None:
        """Keys of those of the periods that a raw file has rows of; None for a table of facts that hold in all.

        Raises:
            InputError: the file cannot be read, or a time in it.
        """

    @abstractmethod
    def sensors(self) -> pl.DataFrame:
        """Static facts, one row per sensor and position: `SENSOR_SCHEMA`; empty where the source has none.

        With `UNIT_SCHEMA` behind it where the source gives factors between units.
        """

    @abstractmethod
    def readings(self, period: Period) -> pl.DataFrame:
        """Rows of one period as landed: sensor_id, timestamp, [received], variables, file, row."""

    def edges(self, period: Period) -> pl.DataFrame:
        """Edges valid in the period: `EDGE_SCHEMA`, a missing column being null."""
        raise InputError(f"period {period.key}: the source of this stream gives no edges; set source.edges")
