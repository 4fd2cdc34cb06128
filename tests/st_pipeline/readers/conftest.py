"""A reader over files that a test writes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.readers import readers
from st_pipeline.readers.base import Reader, SourceContext

COLUMNS = {"sensor_id": "id", "timestamp": "time", "flow": "q"}


def written(path: Path, content: str | bytes | pl.DataFrame) -> None:
    """Write one file; a frame in the format of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pl.DataFrame):
        buffer = io.BytesIO()
        content.write_parquet(buffer) if path.suffix == ".parquet" else content.write_csv(buffer)
        content = buffer.getvalue()
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def make_reader(tmp_path: Path) -> Callable[..., Reader]:
    """`make_reader(source, files, **changes)`: hourly readings of January and February 2024 in UTC.

    Files whose name starts with `data/` go to the data folder, all others to the stream's own.
    """

    def make(source: Mapping[str, Any], files: Mapping[str, str | bytes | pl.DataFrame], **changes: Any) -> Reader:
        for name, content in files.items():
            written(tmp_path / name if name.startswith("data/") else tmp_path / "stream" / name, content)
        where = {} if source["format"] == "simulated" else {"readings": "readings.csv"}
        plain = {
            "name": "stream",
            "source": {"columns": COLUMNS, **where, **source},
            "step": "1h",
            "periods": {"every": "month", "start": "2024-01-01", "end": "2024-03-01"},
        }
        config = StreamConfig.model_validate({**plain, **changes})
        context = SourceContext(config, tmp_path / "stream", tmp_path / "data", tmp_path / "scratch")
        reader: Reader = readers.build(config.source.spec(), context=context)
        return reader

    return make
