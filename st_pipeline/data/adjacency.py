"""The adjacency of one period: raw weights with the ids of its nodes, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from st_pipeline.config import StreamConfig
from st_pipeline.data.graphs import graph_recipes
from st_pipeline.data.graphs.base import GraphSource
from st_pipeline.data.positions import positions_at
from st_pipeline.errors import InputError
from st_pipeline.periods import Period
from st_pipeline.storage import Codec, encode_metadata, safetensors_metadata
from st_pipeline.types import Graph


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Sparse adjacency, sorted by row and column: A[row, column] = weight, raw."""

    period: str
    sensor_ids: tuple[str, ...]
    recipe: dict[str, object]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    weight: NDArray[np.float32]

    def graph(self) -> Graph:
        return Graph.from_edges(self.row, self.column, self.weight, num_nodes=len(self.sensor_ids))

    def by_name(self) -> dict[tuple[str, str], float]:
        """Edges as pairs of sensor ids."""
        ids = self.sensor_ids
        edges = zip(self.row.tolist(), self.column.tolist(), self.weight.tolist(), strict=True)
        return {(ids[row], ids[column]): weight for row, column, weight in edges}


def build_adjacency(
    sensor_ids: tuple[str, ...],
    *,
    sensors: pl.DataFrame,
    edges: pl.DataFrame | None,
    config: StreamConfig,
    period: Period,
) -> Adjacency:
    """The adjacency of a node set by the stream's recipe, with positions as of the period's last day.

    Raises:
        InputError: the recipe needs what the source does not give, or given edges name unknown sensors.
    """
    if edges is not None and len(sensors):
        _known_only(edges, sensors, config)
    positions = positions_at(sensors, sensor_ids, period.last_day)
    found = graph_recipes.build(config.graph.spec()).edges(GraphSource(sensor_ids, positions, edges))
    order = np.lexsort((found.column, found.row))
    row, column = (part[order].astype(np.int64) for part in (found.row, found.column))
    return Adjacency(period.key, sensor_ids, config.graph.spec(), row, column, found.weight[order].astype(np.float32))


def graph_statistics(current: Adjacency, previous: Adjacency | None) -> dict[str, float | int]:
    """Numbers of the graph, and of its difference to the previous period's."""
    nodes, edges = len(current.sensor_ids), len(current.row)
    matrix = coo_array((np.ones(edges), (current.row, current.column)), shape=(nodes, nodes))
    parts, _ = connected_components(matrix, directed=False) if nodes else (0, None)
    degree = np.bincount(current.row, minlength=nodes)
    numbers: dict[str, float | int] = {
        "nodes": nodes,
        "edges": edges,
        "mean_degree": edges / max(nodes, 1),
        "largest_degree": int(degree.max(initial=0)),
        "isolated": int((degree + np.bincount(current.column, minlength=nodes) == 0).sum()),
        "components": int(parts),
        "mean_weight": float(current.weight.mean()) if edges else 0.0,
    }
    if previous is not None:
        now, before = current.by_name(), previous.by_name()
        numbers["edges_added"] = len(now.keys() - before.keys())
        numbers["edges_removed"] = len(before.keys() - now.keys())
        numbers["edges_reweighted"] = sum(
            not np.isclose(now[pair], before[pair]) for pair in now.keys() & before.keys()
        )
    return numbers


def _known_only(edges: pl.DataFrame, sensors: pl.DataFrame, config: StreamConfig) -> None:
    named = pl.concat([edges["source"], edges["target"]]).unique().sort()
    unknown = named.filter(~named.is_in(sensors["sensor_id"].unique().implode()))
    if len(unknown):
        raise InputError(
            f"stream {config.name!r}: the edges name {len(unknown)} sensors that the sensor table has not, "
            f"e.g. {unknown[0]!r}; add them to it or remove their edges"
        )


def _dump(adjacency: Adjacency) -> bytes:
    document = {"period": adjacency.period, "sensor_ids": adjacency.sensor_ids, "recipe": adjacency.recipe}
    arrays: dict[str, Any] = {"row": adjacency.row, "column": adjacency.column, "weight": adjacency.weight}
    return save_safetensors(arrays, encode_metadata(document))


def _load(payload: bytes) -> Adjacency:
    arrays, document = load_safetensors(payload), safetensors_metadata(payload)
    return Adjacency(
        document["period"],
        tuple(document["sensor_ids"]),
        document["recipe"],
        arrays["row"],
        arrays["column"],
        arrays["weight"],
    )


ADJACENCY: Codec[Adjacency] = Codec("safetensors", _dump, _load)
