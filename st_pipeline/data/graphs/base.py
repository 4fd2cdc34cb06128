"""What a graph recipe is given and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.data.positions import Positions
from st_pipeline.errors import InputError


class Edges(NamedTuple):
    """A[row, column] = weight: a row gathers from its columns."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class GraphSource:
    """Nodes of one period, where they are, and the edges the source gives (None if it gives none)."""

    ids: tuple[str, ...]
    positions: Positions
    given: pl.DataFrame | None

    def placed(self) -> NDArray[np.int64]:
        """Nodes whose position is known.

        Raises:
            InputError: of several nodes there is none.
        """
        known = self.positions.known
        if len(self.ids) > 1 and not len(known):
            raise InputError(
                "the graph recipe needs positions and no sensor of the period has one; name the columns of latitude "
                "and longitude, or of x and y, in source.columns, or set graph.recipe to none"
            )
        return known

    def among_nodes(self, value: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Given edges between nodes of the period: rows of source and target, and the values of a column.

        Raises:
            InputError: the source gives no edges, or the column is empty.
        """
        if self.given is None:
            raise InputError(f"the graph recipe needs edges with a {value}; set source.edges")
        if len(self.given) and self.given[value].is_null().all():
            raise InputError(
                f"the given edges have no {value}; name its column in source.columns, or choose another graph recipe"
            )
        nodes = pl.DataFrame(
            {"id": list(self.ids), "node": np.arange(len(self.ids))}, schema_overrides={"id": pl.String}
        )
        frame = self.given.join(nodes, left_on="source", right_on="id").join(
            nodes, left_on="target", right_on="id", suffix="_target"
        )
        frame = frame.filter((pl.col("node") != pl.col("node_target")) & pl.col(value).is_not_null())
        frame = frame.sort("node", "node_target", value).unique(
            ["node", "node_target"], keep="first", maintain_order=True
        )
        return frame["node"].to_numpy(), frame["node_target"].to_numpy(), frame[value].to_numpy()


class GraphRecipe(ABC):
    """One way to make an adjacency."""

    @abstractmethod
    def edges(self, source: GraphSource) -> Edges:
        """Raw weights, without self loops; the normalisation belongs to the model."""


def gaussian(distance: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """exp(-d^2 / sigma^2) (Shuman et al. 2013; EAC, Appendix D)."""
    return np.asarray(np.exp(-((distance / sigma) ** 2)))


def symmetric(edges: Edges) -> Edges:
    """Both directions of every edge, with the larger weight where both are given."""
    row = np.concatenate([edges.row, edges.column])
    column = np.concatenate([edges.column, edges.row])
    weight = np.concatenate([edges.weight, edges.weight])
    order = np.lexsort((-weight, column, row))
    row, column, weight = row[order], column[order], weight[order]
    first = np.ones(len(row), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    return Edges(row[first], column[first], weight[first])
