"""Gaussian kernel of distances that the source gives, e.g. along the roads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from st_pipeline.data.graphs.base import Edges, GraphRecipe, GraphSource, gaussian, symmetric
from st_pipeline.errors import InputError
from st_pipeline.registry import GRAPHS


@GRAPHS.register
class GivenDistances(GraphRecipe):
    """exp(-d^2 / sigma^2) where that is at least `threshold`.

    Args:
        threshold: in (0, 1).
        sigma: unit of the given distances; by default their standard deviation, or their mean if all are the same.
        both_ways: join both directions of a pair given once.
    """

    def __init__(self, *, threshold: float = 0.1, sigma: float | None = None, both_ways: bool = True) -> None:
        if not 0 < threshold < 1:
            raise InputError(f"graph.threshold is {threshold}; expected a number between 0 and 1")
        self.threshold = threshold
        self.sigma = sigma
        self.both_ways = both_ways

    def edges(self, source: GraphSource) -> Edges:
        row, column, distance = source.among_nodes("distance")
        sigma = self.sigma or _typical(distance)
        weight = gaussian(distance, sigma)
        keep = weight >= self.threshold
        found = Edges(row[keep], column[keep], weight[keep])
        return symmetric(found) if self.both_ways else found


def _typical(distance: NDArray[np.float64]) -> float:
    if not len(distance):
        return 1.0
    return float(np.std(distance) if np.ptp(distance) > 0 else np.mean(distance)) or 1.0
