"""How the graph of a period differs from that of the period before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from st_pipeline.data.adjacency import Adjacency, graph_statistics

MOST_NODES = 2000  # common sensors; beyond them all eigenvalues of a dense matrix take too long


def graph_change(current: Adjacency, previous: Adjacency | None) -> dict[str, float | int | None]:
    """Edges and degree of the graph, and their difference to the previous period's; None where it has none.

    `spectral_distance` is that of the sensors which both graphs have, None of too few or too many of them.
    """
    now = graph_statistics(current, previous)
    before = graph_statistics(previous, None) if previous else {}
    names = ("edges_added", "edges_removed", "edges_reweighted")
    return {
        "edges": now["edges"],
        "mean_degree": now["mean_degree"],
        "mean_degree_before": before.get("mean_degree"),
        **{name: now.get(name) for name in names},
        "spectral_distance": spectral_distance(current, previous) if previous else None,
    }


def spectral_distance(current: Adjacency, previous: Adjacency) -> float | None:
    """Mean distance of the sorted eigenvalues of the two normalised Laplacians, among the sensors of both: 0 to 2.

    I - D^-1/2 W D^-1/2 with W = (A + A^T) / 2; a sensor without an edge has the eigenvalue 0. None of fewer than two
    common sensors, or of more than `MOST_NODES`.
    """
    common = sorted({*current.sensor_ids} & {*previous.sensor_ids})
    if not 2 <= len(common) <= MOST_NODES:
        return None
    now, before = (np.linalg.eigvalsh(_laplacian(graph, common)) for graph in (current, previous))
    return float(np.abs(now - before).mean())


def _laplacian(graph: Adjacency, names: list[str]) -> NDArray[np.float64]:
    """(n, n) of the named sensors, in their order."""
    place = np.full(len(graph.sensor_ids), -1)
    rows = {name: row for row, name in enumerate(graph.sensor_ids)}
    place[[rows[name] for name in names]] = np.arange(len(names))
    row, column = place[graph.row], place[graph.column]
    inside = (row >= 0) & (column >= 0) & (row != column)
    weights = np.zeros((len(names), len(names)))
    np.add.at(weights, (row[inside], column[inside]), np.abs(graph.weight[inside].astype(np.float64)) / 2)
    weights += weights.T
    degree = weights.sum(axis=1)
    linked = degree > 0
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=linked)
    return np.asarray(np.diag(linked.astype(np.float64)) - scale[:, None] * weights * scale)
