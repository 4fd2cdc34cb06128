"""Per-period matrices: one `.npz` a period, time by sensor, as the published archives of EAC and TrafficStream.

`{period}` in a pattern is the period's key. Column j is the same sensor in every period; new sensors are appended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.data.clock import step_count
from st_pipeline.errors import InputError, closest
from st_pipeline.periods import Period
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA, Reader, SourceContext
from st_pipeline.readers.parts.columns import NAMES
from st_pipeline.registry import READERS


@READERS.register
class NpzReader(Reader):
    """Matrices (L, N) or (L, N, C) with timestamps made from the period's start and the stream's step."""

    def __init__(
        self,
        context: SourceContext,
        *,
        readings: str,
        array: str = "x",
        adjacency: str | None = None,
        steps: int | None = None,
    ) -> None:
        if steps is not None and steps < 1:
            raise context.refuse("steps", steps, "at least 1")
        self.context = context
        self.pattern = readings
        self.adjacency = adjacency
        self.array = array
        self.steps = steps

    @property
    def has_edges(self) -> bool:  # type: ignore[override]
        return self.adjacency is not None

    def files(self) -> list[Path]:
        patterns = {"readings": self.pattern, **({"adjacency": self.adjacency} if self.adjacency else {})}
        return [
            file
            for field, pattern in patterns.items()
            for file in self.context.find(pattern.replace("{period}", "*"), field)
        ]

    def periods_of(self, file: Path, periods: Sequence[Period]) -> list[str] | None:
        shapes(file)
        patterns = [pattern for pattern in (self.pattern, self.adjacency) if pattern]
        return [period.key for period in periods if any(self._is_of(file, pattern, period) for pattern in patterns)]

    def _is_of(self, file: Path, pattern: str, period: Period) -> bool:
        return Path(self.context.label(file)).match(pattern.replace("{period}", period.key))

    def sensors(self) -> pl.DataFrame:
        return pl.DataFrame(schema=SENSOR_SCHEMA)

    def readings(self, period: Period) -> pl.DataFrame:
        file, matrix = self._series(period)
        self._check_growth(file, matrix.shape[1], period)
        names = self.context.config.source.variables
        matrix = matrix[: self.steps].astype(np.float64)
        length, count, _ = matrix.shape
        step = self.context.config.step
        if not matrix.size:
            raise InputError(f"{file}: {self.array}: found shape {matrix.shape}, expected at least one step and sensor")
        if (room := step_count(period, step)) < length:
            raise InputError(
                f"{file}: {length:,} steps of {step} do not fit in period {period.key} ({room:,}); set source.steps"
            )
        start = period.start.astimezone(UTC)
        times = pl.datetime_range(start, start + step * (length - 1), interval=step, time_unit="ms", eager=True)
        return pl.DataFrame(
            {
                "sensor_id": np.tile(np.array(column_ids(count), dtype=object), length),
                "timestamp": times.gather(np.repeat(np.arange(length, dtype=np.uint32), count)),
                **{name: matrix[:, :, c].ravel() for c, name in enumerate(names)},
                "file": np.full(length * count, self.context.label(file), dtype=object),
                "row": np.repeat(np.arange(1, length + 1, dtype=np.uint32), count),
            },
            schema_overrides={"sensor_id": NAMES, "file": NAMES},
        ).with_columns(pl.col(names).fill_nan(None))

    def edges(self, period: Period) -> pl.DataFrame:
        if not self.adjacency:
            return super().edges(period)
        file, matrix = self._load(self.adjacency, "adjacency", period)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"{file}: {self.array}: found shape {matrix.shape}, expected a square adjacency matrix")
        weights = matrix.astype(np.float64)
        if not np.isfinite(weights).all():
            raise InputError(f"{file}: {self.array}: found a weight that is no finite number; expected 0 for no edge")
        if (weights < 0).any():
            raise InputError(
                f"{file}: {self.array}: found a weight below 0; expected 0 for no edge, and above for others"
            )
        if len(matrix) != (count := self._width(period) or len(matrix)):
            raise InputError(
                f"{file}: {self.array}: found shape {matrix.shape}, expected a row for each of the {count} sensors"
            )
        row, column = np.nonzero(weights)
        ids = np.array(column_ids(len(matrix)), dtype=object)
        frame = {
            "source": ids[row],
            "target": ids[column],
            "distance": None,
            "weight": weights[row, column],
        }
        return pl.DataFrame(frame, schema=EDGE_SCHEMA)

    def _series(self, period: Period) -> tuple[Path, NDArray[np.generic]]:
        """The file of a period, and its readings (steps, sensors, variables)."""
        file, matrix = self._load(self.pattern, "readings", period)
        names, shape = self.context.config.source.variables, matrix.shape
        if matrix.ndim == 2:
            matrix = matrix[:, :, None]
        if matrix.ndim != 3 or matrix.shape[2] != len(names):
            raise InputError(
                f"{file}: {self.array}: found shape {shape}, "
                f"expected (steps, sensors, {len(names)}) for {', '.join(names)}"
            )
        return file, matrix

    def _width(self, period: Period) -> int | None:
        """Number of sensors in a period's readings; None where they cannot be read, which is told elsewhere."""
        try:
            shape = shapes(self._file(self.pattern, "readings", period)).get(self.array, ())
        except InputError:
            return None
        return shape[1] if len(shape) in (2, 3) else None

    def _check_growth(self, file: Path, count: int, period: Period) -> None:
        """Refuse fewer columns than the period before has: nothing says which sensor has left."""
        before = self.context.config.calendar.period(period.index - 1) if period.index else None
        if before and count < (least := self._width(before) or 0):
            raise InputError(
                f"{file}: {self.array}: found {count} sensors, expected at least the {least} of period {before.key}; "
                "keep the column of a sensor that has left, without numbers"
            )

    def _file(self, pattern: str, field: str, period: Period) -> Path:
        files = self.context.find(pattern.replace("{period}", period.key), field)
        if len(files) > 1:
            raise self.context.refuse(field, pattern, f"one file a period, not {files[0].name} and {files[1].name}")
        return files[0]

    def _load(self, pattern: str, field: str, period: Period) -> tuple[Path, NDArray[np.generic]]:
        file = self._file(pattern, field, period)
        matrix = self._array(file)
        if not np.issubdtype(matrix.dtype, np.number) or np.issubdtype(matrix.dtype, np.complexfloating):
            raise InputError(f"{file}: {self.array}: found type {matrix.dtype}, expected real numbers")
        return file, matrix

    def _array(self, file: Path) -> NDArray[np.generic]:
        with open_archive(file) as archive:
            if self.array not in archive.files:
                raise InputError(f"{file}: there is no array {self.array!r}; {closest(self.array, archive.files)}")
            return np.asarray(archive[self.array])


def largest_array(file: Path) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the largest array of two or three axes.

    Raises:
        InputError: the archive has none, or cannot be read.
    """
    found = {name: shape for name, shape in shapes(file).items() if len(shape) in (2, 3)}
    if not found:
        raise InputError(f"{file}: there is no array of time by sensor; expected one of two or three axes")
    return max(found.items(), key=lambda item: int(np.prod(item[1])))


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an archive, from their headers alone.

    Raises:
        InputError: the archive cannot be read.
    """
    with open_archive(file), ZipFile(file) as entries:
        return {
            name.removesuffix(".npy"): _shape(entries, name) for name in entries.namelist() if name.endswith(".npy")
        }


def _shape(entries: ZipFile, name: str) -> tuple[int, ...]:
    with entries.open(name) as entry:
        version = np.lib.format.read_magic(entry)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape: tuple[int, ...] = read(entry)[0]
        return shape


@contextmanager
def open_archive(file: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An open archive; whatever is wrong with it while it is read is one sentence."""
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{file}: is a single array; expected an .npz archive")
        with archive:
            yield archive
    except InputError:
        raise
    except (Exception, MemoryError) as error:  # zip, deflate, header: any complaint means the same to the user
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file}: cannot be read as npz: {reason}") from None


def column_ids(count: int) -> list[str]:
    """Ids of the columns of a matrix: `00000`, `00001`, ..."""
    return [f"{index:05d}" for index in range(count)]
