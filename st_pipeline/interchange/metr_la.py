"""METR-LA and PEMS-BAY as DCRNN publishes them: a table in HDF5, time by sensor, and a graph of road distances.

Layout (liyaguang/DCRNN, README and `scripts/gen_adj_mx.py`): `metr-la.h5` or `pems-bay.h5` is a pandas table whose
columns are sensor ids; `adj_mx*.pkl` is a pickled list of ids, a dictionary id -> row and a matrix; `distances_*.csv`
has `from`, `to`, `cost` in metres, for more sensors than the readings; `graph_sensor_locations*.csv` has ids, latitude
and longitude, with or without a header. A speed of 0 stands for no reading (DCRNN masks it).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import as_series
from st_pipeline.interchange.parts.files import beside, one_file
from st_pipeline.interchange.parts.graphs import find_graph
from st_pipeline.interchange.parts.hdf import read_table
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, step_of
from st_pipeline.interchange.parts.tables import has_header, numbers, sensor_table, texts
from st_pipeline.registry import IMPORTERS


@IMPORTERS.register
def metr_la(path: Path) -> Draft:
    """Speeds with ids and times; of several graphs the adjacency goes before distances, distances before positions."""
    file = one_file(path, "*.h5", "*.hdf5", what="table of readings")
    table = read_table(file)
    if table.index.dtype.kind != "M":
        raise InputError(f"{file}: the index holds {table.index.dtype}, expected times")
    values = as_series(table.values, str(file))
    step = step_of(table.index, f"{file}: index")
    sensors = _positions(path, table.columns)
    edges, graph = find_graph(path, table.columns, placed=sensors is not None)
    facts = Facts(
        f"Speeds of {len(table.columns)} sensors from {file.name}",
        {"speed": {"sentinels": [0]}},
        as_datetime(table.index[0]),
        as_datetime(table.index[-1]),
        step,
    )
    grid = Grid(values, table.columns, ("speed",), table.index)
    return long_draft(facts, grid.frames(), sensors=sensors, edges=edges, graph=graph)


def _positions(path: Path, ids: Sequence[str]) -> pl.DataFrame | None:
    """Latitude and longitude of the sensors, if there is a file of them; all sensors are listed."""
    file = beside(path, "graph_sensor_locations*.csv", "*locations*.csv")
    if file is None:
        return None
    header = has_header(file, place=0)
    frame = texts(file, header=header)
    names = ("sensor_id", "latitude", "longitude") if header else frame.columns[:3]
    if len(names) < 3:
        raise InputError(f"{file}: found {len(names)} columns, expected an id, a latitude and a longitude")
    axes = numbers(frame, names[1:], file).rename(dict(zip(names[1:], ("latitude", "longitude"), strict=True)))
    found = pl.concat([frame.select(pl.col(names[0]).str.strip_chars().alias("sensor_id")), axes], how="horizontal")
    return sensor_table(ids, found)
