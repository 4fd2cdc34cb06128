"""The query engine over the lake: views over the Parquet files, in memory; nothing else is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import dagster as dg
import duckdb

from resources.lake import lake
from st_pipeline.errors import InputError


class DuckDBResource(dg.ConfigurableResource):
    """An in-memory DuckDB with one view per Parquet asset: `melbourne.readings`, `melbourne.eac_evaluation`, ...

    A partitioned asset's view has all its periods, and a column `file_period`.
    """

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that is closed afterwards."""
        connection = duckdb.connect(":memory:")
        try:
            create_views(connection)
            yield connection
        finally:
            connection.close()


def create_views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Make the views; returns their names."""
    store = lake()
    if not isinstance(store.root, Path):
        connection.register_filesystem(store.root.fs)
    made: list[str] = []
    tables = [
        PurePosixPath(name) for name in store.files.below(store.root) if name.endswith(".parquet") and "/" in name
    ]
    for folder in sorted({table.parent for table in tables}):
        stream, *rest = folder.parts
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{stream}"')
        if not rest:
            for table in (one for one in tables if one.parent == folder):
                select = f"SELECT * FROM read_parquet({_text(str(store.root / table))})"
                made.append(_view(connection, stream, table.stem, select))
            continue
        files = f"read_parquet({_text(str(store.root / folder / '*.parquet'))}, filename = true, union_by_name = true)"
        select = f"SELECT * EXCLUDE (filename), parse_filename(filename, true) AS file_period FROM {files}"
        made.append(_view(connection, stream, "_".join(rest), select))
    return made


def _view(connection: duckdb.DuckDBPyConnection, stream: str, name: str, select: str) -> str:
    try:
        connection.execute(f'CREATE OR REPLACE VIEW "{stream}"."{name}" AS {select}')
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{stream}/{name}: a Parquet file of the lake cannot be read: {reason}") from None
    return f"{stream}.{name}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
