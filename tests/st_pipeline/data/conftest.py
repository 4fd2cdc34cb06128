"""Raw rows, sensor tables and tensors that a test writes down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.data.quality import OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.readers.base import EDGE_SCHEMA, SENSOR_SCHEMA


@pytest.fixture(scope="session")
def make_raw() -> Callable[..., pl.DataFrame]:
    """`make_raw(rows, zoned=False, received=False)`: rows of sensor_id, timestamp, [received,] flow as a reader's.

    Times are ISO 8601; naive ones are labels of the stream's clock.
    """

    def make(
        rows: Iterable[Sequence[Any]], *, zoned: bool = False, received: bool = False, width: Any = pl.Float64
    ) -> pl.DataFrame:
        clock = pl.Datetime("ms", "UTC" if zoned else None)
        schema = {"sensor_id": pl.String, "timestamp": clock}
        schema |= {"received": pl.Datetime("ms")} if received else {}
        table = [
            tuple(_time(cell) if 0 < place < len(row) - 1 else cell for place, cell in enumerate(row)) for row in rows
        ]
        return pl.DataFrame(table, schema={**schema, "flow": width}, orient="row")

    return make


def _time(cell: Any) -> Any:
    return datetime.fromisoformat(cell) if isinstance(cell, str) else cell


@pytest.fixture(scope="session")
def make_sensors() -> Callable[..., pl.DataFrame]:
    """`make_sensors({"sensor_id": ..., "x": ...}, ...)`: a sensor table, facts left out being null."""

    def make(*rows: Mapping[str, Any]) -> pl.DataFrame:
        return pl.DataFrame([{**dict.fromkeys(SENSOR_SCHEMA), **row} for row in rows], schema=SENSOR_SCHEMA)

    return make


@pytest.fixture(scope="session")
def make_edges() -> Callable[..., pl.DataFrame]:
    """`make_edges(("a", "b", distance, weight), ...)`: an edge table."""

    def make(*rows: tuple[str, str, float | None, float | None]) -> pl.DataFrame:
        return pl.DataFrame(list(rows), schema=EDGE_SCHEMA, orient="row")

    return make


@pytest.fixture(scope="session")
def make_tensor() -> Callable[..., SeriesTensor]:
    """`make_tensor(values, ids, flags=None)`: hourly values (L, N) of one variable from 2024 on."""

    def make(values: Any, ids: Iterable[str], *, flags: Any = None, period: str = "2024-01-01") -> SeriesTensor:
        array = np.asarray(values, dtype=np.float32)[..., None]
        given = np.full(array.shape, OBSERVED) if flags is None else np.asarray(flags)[..., None]
        start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
        times = start + 3600 * np.arange(len(array), dtype=np.int64)
        return SeriesTensor(period, tuple(ids), ("flow",), "UTC", array, given.astype(np.uint8), times)

    return make
