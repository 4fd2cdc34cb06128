"""The stored data of one period, together."""

from __future__ import annotations

from dataclasses import dataclass

from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.storage import digest_of
from st_pipeline.types import Graph, NodeSet, Period


@dataclass(frozen=True)
class PeriodData:
    """Everything one period offers a model."""

    period: Period
    nodes: NodeSet
    tensor: SeriesTensor
    graph: Graph

    @property
    def digest(self) -> str:
        graph = [part.tolist() for part in (self.graph.row, self.graph.column, self.graph.weight)]
        return digest_of([self.tensor.digest, graph, self.nodes.to_json()])
