"""No edges: every sensor is on its own."""

from __future__ import annotations

import numpy as np

from st_pipeline.data.graphs.base import Edges, GraphRecipe, GraphSource
from st_pipeline.registry import GRAPHS


@GRAPHS.register
class Without(GraphRecipe):
    """The empty graph."""

    def edges(self, source: GraphSource) -> Edges:
        del source
        return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
