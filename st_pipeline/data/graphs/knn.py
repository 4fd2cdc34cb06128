"""The k nearest sensors of each sensor, weighted by a Gaussian kernel of their distance."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from st_pipeline.data.graphs.base import Edges, GraphRecipe, GraphSource, gaussian, symmetric
from st_pipeline.errors import InputError
from st_pipeline.registry import GRAPHS


@GRAPHS.register
class Nearest(GraphRecipe):
    """i and j are joined if either is among the other's `k` nearest.

    Args:
        k: neighbours of each sensor.
        sigma: metres; by default the median distance to the k-th neighbour.
    """

    def __init__(self, *, k: int = 5, sigma: float | None = None) -> None:
        if k < 1:
            raise InputError(f"graph.k is {k}; expected at least 1")
        self.k = k
        self.sigma = sigma

    def edges(self, source: GraphSource) -> Edges:
        positions = source.positions
        known = source.placed()
        k = min(self.k, len(known) - 1)
        if k < 1:
            return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        points = positions.cartesian()[known]
        straight, neighbour = cKDTree(points).query(points, k=k + 1)
        own = neighbour == np.arange(len(points))[:, None]
        own[~own.any(axis=1), -1] = True  # sensors at one place may list each other before themselves
        away = positions.along_surface(straight[~own].reshape(-1, k))
        sigma = self.sigma or float(np.median(away[:, -1])) or 1.0
        column = known[neighbour[~own].reshape(-1, k)]
        one_way = Edges(np.repeat(known, k), column.ravel(), gaussian(away, sigma).ravel())
        return symmetric(one_way)
