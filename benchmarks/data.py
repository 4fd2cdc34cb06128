"""Data of the published experiment's size: real road graphs where they are at hand, simulated flows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.types import Graph

PEMS_NODES = {2011: 655, 2012: 715, 2013: 786, 2014: 822, 2015: 834, 2016: 850, 2017: 871}
STEPS_PER_DAY = 288
PEMS_STEPS = 31 * STEPS_PER_DAY


@dataclass(frozen=True)
class Network:
    """A graph of so many sensors; `real` says where it is from."""

    graph: Graph
    real: str


def network(num_nodes: int, year: int = 2012, seed: int = 0) -> Network:
    """The real road graph of 2011 or 2012, grown by sensors that join two near others; invented where it is absent.

    The published graphs of later years are not at hand. An added sensor is linked to the two sensors with the
    numbers next to a random one, so that the number of neighbours stays that of the real graph, about five.
    """
    random = np.random.default_rng(seed)
    file = Path(os.environ.get("ST_PIPELINE_DATA", "data")) / "pems_stream_graph" / f"{year}_edges.parquet"
    if file.exists():
        edges = pl.read_parquet(file)
        row, column = (edges[name].to_numpy().astype(np.int64) for name in ("source", "target"))
        weight, known = edges["weight"].to_numpy(), int(max(row.max(), column.max())) + 1
        real = f"real graph of {year}, {known} sensors"
    else:
        known = 2
        row, column, weight = np.array([0, 1]), np.array([1, 0]), np.ones(2)
        real = "invented graph"
    if num_nodes < known:
        keep = (row < num_nodes) & (column < num_nodes)
        row, column, weight = row[keep], column[keep], weight[keep]
        known = num_nodes
    rows, columns, weights = [row], [column], [weight]
    for node in range(known, num_nodes):
        near = random.integers(0, node)
        for other in {near, min(near + 1, node - 1)}:
            rows.append(np.array([node, other]))
            columns.append(np.array([other, node]))
            weights.append(np.full(2, random.uniform(0.905, 1.0)))
    graph = Graph.from_edges(*(np.concatenate(part) for part in (rows, columns, weights)), num_nodes=num_nodes)
    return Network(graph, real + (f" and {num_nodes - known} invented ones" if num_nodes > known else ""))


def flows(num_nodes: int, num_steps: int = PEMS_STEPS, seed: int = 0) -> NDArray[np.float32]:
    """Vehicles per 5 minutes (L, N): two peaks a day, weaker at weekends, slowly changing noise; a few zeros."""
    random = np.random.default_rng(seed)
    step = np.arange(num_steps)
    hour = step % STEPS_PER_DAY / STEPS_PER_DAY * 24
    weekend = (step // STEPS_PER_DAY % 7 >= 5)[:, None]
    level = random.uniform(40, 350, num_nodes)
    morning, evening = random.uniform(0.3, 1, (2, num_nodes))
    shape = (
        0.15 + morning * np.exp(-((hour[:, None] - 8) ** 2) / 6) + evening * np.exp(-((hour[:, None] - 17) ** 2) / 9)
    )
    noise = np.empty((num_steps, num_nodes), dtype=np.float32)
    noise[0] = 0
    for at in range(1, num_steps):
        noise[at] = 0.9 * noise[at - 1] + random.normal(0, 0.03, num_nodes)
    values = level * (shape * np.where(weekend, 0.6, 1) + noise)
    return np.maximum(values.round(), 0).astype(np.float32)
