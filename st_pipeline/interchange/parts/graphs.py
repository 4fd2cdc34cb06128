"""Graphs of archives as tables of edges: adjacency matrices and lists of distances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.arrays import Array, real
from st_pipeline.interchange.parts.files import beside
from st_pipeline.interchange.parts.plain_pickle import load_plain
from st_pipeline.interchange.parts.tables import has_header, numbers, texts
from st_pipeline.readers.base import EDGE_SCHEMA

SOURCES, TARGETS = ("from", "source", "origin_id"), ("to", "target", "destination_id")
DISTANCES = ("cost", "distance", "dist")
KERNEL = "{recipe: distances, threshold: 0.1, both_ways: false}  # guessed"
POSITIONED = "{recipe: gaussian, threshold: 0.5}  # guessed: from the positions"
WEIGHTED = "{recipe: edges}"
ALONE = "{recipe: none}  # guessed: no positions and no edges"


def adjacency_edges(matrix: Array, ids: Sequence[str], where: str) -> pl.DataFrame:
    """Edges with a weight above 0, without self loops, of A[row, column] = weight.

    Raises:
        InputError: it is no square matrix with a row for each sensor, or has a weight below 0 or that is not finite.
    """
    if matrix.ndim != 2 or matrix.shape != (len(ids), len(ids)):
        raise InputError(
            f"{where}: found an adjacency of shape {matrix.shape}, expected ({len(ids)}, {len(ids)}): one row and one "
            "column for each sensor of the readings"
        )
    if not np.isfinite(matrix).all():
        raise InputError(f"{where}: found a weight that is no finite number; expected 0 for no edge")
    if (matrix < 0).any():
        raise InputError(f"{where}: found a weight below 0; expected 0 for no edge, and above for others")
    row, column = np.nonzero(matrix)
    row, column = row[row != column], column[row != column]
    names = np.array(ids, dtype=object)
    weight = matrix[row, column].astype(np.float64)
    return pl.DataFrame(
        {"source": names[row], "target": names[column], "distance": None, "weight": weight}, schema=EDGE_SCHEMA
    )


def distance_edges(file: Path, ids: Sequence[str]) -> pl.DataFrame:
    """Distances between the given sensors of a CSV with `from`, `to` and `cost` or `distance`, with or without header.

    Ids that are not among the sensors are left out: published lists cover more sensors than the readings. Ids that are
    all below the number of sensors while no sensor is called so are row numbers.

    Raises:
        InputError: a distance is missing, below 0 or no number, or no edge names two of the sensors.
    """
    frame = texts(file, header=has_header(file, place=2))
    if len(frame.columns) < 3:
        raise InputError(f"{file}: found {len(frame.columns)} columns, expected from, to and a distance")
    lower = {name.lower(): name for name in frame.columns}
    chosen = [
        next((lower[name] for name in names if name in lower), frame.columns[place])
        for place, names in enumerate((SOURCES, TARGETS, DISTANCES))
    ]
    pairs = frame.select(pl.col(chosen[0]).alias("source"), pl.col(chosen[1]).alias("target"))
    pairs = pairs.with_columns(pl.all().str.strip_chars().str.replace(r"\.0+$", ""))
    distance = numbers(frame, [chosen[2]], file, least=0)[chosen[2]].alias("distance")
    if distance.null_count():
        raise InputError(f"{file}: {chosen[2]}: found a row without a number, expected a distance in each")
    edges = pairs.with_columns(distance, pl.lit(None, dtype=pl.Float64).alias("weight"))
    return known_edges(edges, ids, file)


def known_edges(edges: pl.DataFrame, ids: Sequence[str], file: Path) -> pl.DataFrame:
    """Those between sensors of the readings, by id or else by row number.

    Raises:
        InputError: there is none, though there are edges.
    """
    known = pl.Series(list(ids), dtype=pl.String).implode()
    inside = edges.filter(pl.col("source").is_in(known) & pl.col("target").is_in(known))
    if not len(inside) and len(edges):
        inside = _by_number(edges, ids)
    if not len(inside) and len(edges):
        raise InputError(
            f"{file}: no row is about two of the {len(ids)} sensors, e.g. {ids[0]!r}; "
            f"found {edges['source'][0]!r}, expected their ids"
        )
    return inside.select(list(EDGE_SCHEMA))


def _by_number(edges: pl.DataFrame, ids: Sequence[str]) -> pl.DataFrame:
    """Edges whose ids are row numbers, with the ids of the sensors; those of no sensor are left out."""
    number = {str(row): name for row, name in enumerate(ids)}
    named = edges.with_columns(
        pl.col(side).replace_strict(number, default=None, return_dtype=pl.String) for side in ("source", "target")
    )
    return named.drop_nulls(["source", "target"])


def find_graph(path: Path, ids: Sequence[str], *, placed: bool = False) -> tuple[pl.DataFrame | None, str]:
    """Edges of DCRNN's files beside the readings, and the recipe that uses what there is.

    An adjacency goes before distances, distances before positions (`placed`).
    """
    if pickle := beside(path, "adj_mx*.pkl", "adj*.pkl"):
        return read_adjacency(pickle, ids), WEIGHTED
    if distances := beside(path, "distances*.csv"):
        edges = distance_edges(distances, ids)
        sigma = float(np.std(edges["distance"].to_numpy()))  # the zeros of a sensor to itself count, as in DCRNN
        given = f", sigma: {sigma:.9g}" if sigma > 0 else ""
        return edges, f"{{recipe: distances, threshold: 0.1{given}, both_ways: false}}  # guessed: DCRNN's kernel"
    return None, POSITIONED if placed else ALONE


def read_adjacency(file: Path, ids: Sequence[str]) -> pl.DataFrame:
    """Edges of DCRNN's pickle: [ids, {id: row}, matrix], or of a matrix alone in the order of the readings.

    Raises:
        InputError: it holds something else, or names other sensors than the readings.
    """
    held: Any = load_plain(file)
    named: Sequence[str] = ids
    if isinstance(held, list | tuple) and len(held) == 3:
        named = [name.decode() if isinstance(name, bytes) else str(name) for name in held[0]]
        held = held[2]
    if not isinstance(held, np.ndarray):
        raise InputError(f"{file}: found a {type(held).__name__}, expected [ids, rows by id, matrix] or a matrix")
    edges = adjacency_edges(real(held, str(file)), named, str(file))
    if unknown := set(named) ^ set(ids):
        raise InputError(
            f"{file}: its sensors are not those of the readings, e.g. {min(unknown)!r} is in one of them only; "
            "expected the same ids"
        )
    return edges
