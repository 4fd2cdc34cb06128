"""The query engine over the lake: views over the Parquet files, in memory; nothing else is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    root = lake().root
    made: list[str] = []
    folders = {file.parent for file in root.glob("*/**/*.parquet")} if root.is_dir() else set()
    for folder in sorted(folders):
        stream, *rest = folder.relative_to(root).parts
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{stream}"')
        if not rest:
            for file in sorted(folder.glob("*.parquet")):
                made.append(_view(connection, stream, file.stem, f"SELECT * FROM read_parquet({_text(str(file))})"))
            continue
        files = f"read_parquet({_text(str(folder / '*.parquet'))}, filename = true, union_by_name = true)"
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
