"""Gaussian kernel of the distance with a threshold, the graph of EAC's streams (Appendix D)."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from st_pipeline.data.graphs.base import Edges, GraphRecipe, GraphSource, gaussian
from st_pipeline.errors import InputError
from st_pipeline.registry import GRAPHS


@GRAPHS.register
class Gaussian(GraphRecipe):
    """A_ij = exp(-d_ij^2 / sigma^2) where that is at least `threshold` and i != j, else 0.

    Args:
        threshold: in (0, 1).
        sigma: metres; by default the standard deviation of all distances between different sensors.
    """

    def __init__(self, *, threshold: float = 0.5, sigma: float | None = None) -> None:
        if not 0 < threshold < 1:
            raise InputError(f"graph.threshold is {threshold}; expected a number between 0 and 1")
        if sigma is not None and sigma <= 0:
            raise InputError(f"graph.sigma is {sigma}; expected metres above 0")
        self.threshold = threshold
        self.sigma = sigma

    def edges(self, source: GraphSource) -> Edges:
        positions = source.positions
        known = source.placed()
        sigma = self.sigma or positions.spread()
        if sigma <= 0 or len(known) < 2:
            return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        points = positions.cartesian()[known]
        reach = sigma * np.sqrt(-np.log(self.threshold))
        pairs = cKDTree(points).query_pairs(positions.straight(reach) * (1 + 1e-9), output_type="ndarray")
        away = positions.along_surface(np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1))
        weight = gaussian(away, sigma)
        keep = weight >= self.threshold
        one, two = known[pairs[keep, 0]], known[pairs[keep, 1]]
        return Edges(np.concatenate([one, two]), np.concatenate([two, one]), np.tile(weight[keep], 2))
