"""LargeST (CA, GLA, GBA, SD): a table of flows a year, facts of the sensors, an adjacency.

Layout (liuxu77/LargeST, README and `process_ca_his.ipynb`): `*_his_raw_<year>.h5` or `*_his_<year>.h5` is a pandas
table, time by sensor id; `*_meta.csv` has ID, Lat, Lng and more; `*_rn_adj.npy` is (N, N) in the order of the facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array, as_series, npy_array
from st_pipeline.interchange.parts.files import beside, files_of
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED, WEIGHTED, adjacency_edges
from st_pipeline.interchange.parts.hdf import read_axes, read_table
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, step_of
from st_pipeline.interchange.parts.tables import need, numbers, sensor_table, texts
from st_pipeline.registry import IMPORTERS


@IMPORTERS.register
def largest(path: Path) -> Draft:
    """Flows of all years, one after the other; the graph is the adjacency, without one the positions'."""
    files = files_of(path, "*.h5", "*.hdf5")
    if not files:
        raise InputError(f"{path}: there is no table of readings; expected *_his_<year>.h5")
    axes = sorted((read_axes(file)[1].min(), file) for file in files)
    files = [file for _, file in axes]
    columns, times = _check(files)
    meta = beside(path, "*meta*.csv")
    facts = texts(meta) if meta else None
    sensors = _sensors(meta, facts, columns) if meta is not None and facts is not None else None
    matrix = beside(path, "*adj*.npy")
    order = columns
    if meta is not None and facts is not None:
        order = [str(name).strip() for name in facts["ID"]]
    edges = _edges(matrix, order, columns) if matrix else None
    drafted = Facts(
        f"Flows of {len(columns)} sensors of LargeST, {len(files)} files",
        {"flow": {"minimum": 0}},
        as_datetime(times[0][0]),
        as_datetime(times[-1][-1]),
        _step(files, times),
    )
    graph = WEIGHTED if edges is not None else POSITIONED if sensors is not None else ALONE
    return long_draft(drafted, _frames(files), sensors=sensors, edges=edges, graph=graph)


def _check(files: Sequence[Path]) -> tuple[list[str], list[Array]]:
    """All sensors, and the times of each file.

    Raises:
        InputError: the times of a file are none, or overlap those of another.
    """
    columns: dict[str, None] = {}
    times = []
    for file in files:
        names, index = read_axes(file)
        if index.dtype.kind != "M" or not len(index):
            raise InputError(f"{file}: the index holds {len(index)} rows of {index.dtype}, expected times")
        columns |= dict.fromkeys(names)
        times.append(index)
    for (before, earlier), (file, later) in pairwise(zip(files, times, strict=True)):
        if later[0] <= earlier[-1]:
            raise InputError(f"{file}: begins at {later[0]}, not after the end of {before.name}, {earlier[-1]}")
    return list(columns), times


def _step(files: Sequence[Path], times: Sequence[Array]) -> timedelta:
    steps = [step_of(index, f"{file}: index") for file, index in zip(files, times, strict=True)]
    if other := [file for file, step in zip(files, steps, strict=True) if step != steps[0]]:
        raise InputError(
            f"{other[0]}: its step is not the {steps[0]} of {files[0].name}; expected the same in all files"
        )
    return steps[0]


def _sensors(file: Path, facts: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    need(facts, ("ID", "Lat", "Lng"), file)
    axes = numbers(facts, ["Lat", "Lng"], file).rename({"Lat": "latitude", "Lng": "longitude"})
    ids = facts.select(pl.col("ID").str.strip_chars().alias("sensor_id"))
    return sensor_table(columns, pl.concat([ids, axes], how="horizontal"))


def _edges(file: Path, order: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """Edges between sensors of the readings."""
    edges = adjacency_edges(npy_array(file), order, str(file))
    known = pl.Series(list(columns), dtype=pl.String).implode()
    return edges.filter(pl.col("source").is_in(known) & pl.col("target").is_in(known))


def _frames(files: Sequence[Path]) -> Iterator[pl.DataFrame]:
    for file in files:
        table = read_table(file)
        values = as_series(table.values.astype(np.float32), str(file))
        yield from Grid(values, table.columns, ("flow",), table.index).frames()
