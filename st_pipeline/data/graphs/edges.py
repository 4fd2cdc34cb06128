"""Edges with weights, as the source gives them."""

from __future__ import annotations

from st_pipeline.data.graphs.base import Edges, GraphRecipe, GraphSource, symmetric
from st_pipeline.registry import GRAPHS


@GRAPHS.register
class Given(GraphRecipe):
    """A[source, target] = weight.

    Args:
        both_ways: also A[target, source].
    """

    def __init__(self, *, both_ways: bool = False) -> None:
        self.both_ways = both_ways

    def edges(self, source: GraphSource) -> Edges:
        found = Edges(*source.among_nodes("weight"))
        return symmetric(found) if self.both_ways else found
