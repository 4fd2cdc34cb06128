"""The values that every part of the library hands to the next.

Shape letters: B windows, T input steps, H horizon, N nodes, C channels, L steps of a period, E edges.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from st_pipeline.periods import Period

__all__ = ["Graph", "NodeSet", "Period", "SeriesShape", "Target", "Window"]

Normalisation = Literal["none", "row", "symmetric"]
DENSE_NODES = 32  # up to here one dense product beats the sparse one, whatever the density
SPARSE_COST = 6  # an edge of a sparse product costs as much as this many cells of a dense one
EPSILON = 1e-6  # keeps the normalisation of an isolated node finite, as the published code does


@dataclass(frozen=True)
class SeriesShape:
    """What a backbone must know of its data.

    `lags` of the `channels` hold the target of earlier seasons, aligned with the forecast steps; they come last.
    """

    window: int
    horizon: int
    channels: int
    num_nodes: int
    steps_per_day: int
    lags: int = 0


class Window(NamedTuple):
    """One batch of model inputs."""

    values: Tensor  # (B, T, N, C) standardised, missing cells filled
    observed: Tensor  # (B, T, N, C) bool
    time_of_day: Tensor  # (B, T + H) int, slot of the local day
    day_of_week: Tensor  # (B, T + H) int, Monday is 0


class Target(NamedTuple):
    """What follows a window, in the units the model is trained in."""

    values: Tensor  # (B, H, N)
    observed: Tensor  # (B, H, N) bool


@dataclass(frozen=True)
class NodeSet:
    """The ordered sensors of one period: retained ones in place, added ones behind them.

    `births` and `silence` also cover sensors that have left, so that a returning sensor is recognised.
    """

    period: str
    ids: tuple[str, ...]
    added: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    births: Mapping[str, str] = field(default_factory=dict)
    silence: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, ids: Iterable[str], period: str = "1") -> Self:
        """A first node set: every sensor is added."""
        names = tuple(ids)
        return cls(period=period, ids=names, added=names, births=dict.fromkeys(names, period))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def retained(self) -> tuple[str, ...]:
        new = {*self.added, *self.returned}
        return tuple(name for name in self.ids if name not in new)

    @property
    def cohorts(self) -> dict[str, list[int]]:
        """Birth period -> rows of the sensors born in it, oldest cohort first."""
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(self.ids):
            groups.setdefault(self.births[name], []).append(row)
        return dict(sorted(groups.items()))

    def index_of(self, names: Iterable[str]) -> list[int]:
        """Rows of the named sensors.

        Raises:
            KeyError: a name is not in the set.
        """
        rows = {name: row for row, name in enumerate(self.ids)}
        return [rows[name] for name in names]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        lists = {key: tuple(value) for key, value in document.items() if isinstance(value, list)}
        return cls(**{**document, **lists})


@dataclass(frozen=True, eq=False)
class Graph:
    """Weighted sparse adjacency of one node set: A[row, column] = weight; a row gathers from its columns."""

    num_nodes: int
    row: Tensor  # (E,) int64
    column: Tensor  # (E,) int64
    weight: Tensor  # (E,) float32, raw

    @classmethod
    def from_edges(cls, row: Any, column: Any, weight: Any, *, num_nodes: int) -> Self:
        """Edges in any order, sorted by row and column; a pair given twice is summed.

        Raises:
            ValueError: an index is outside the graph, a weight is not finite, or the three have different lengths.
        """
        row, column = (torch.asarray(part, dtype=torch.int64, copy=True) for part in (row, column))
        weight = torch.asarray(weight, dtype=torch.float32, copy=True)
        if not row.shape == column.shape == weight.shape or row.dim() != 1:
            raise ValueError(
                f"edges need row, column and weight of one length, found {row.shape}, {column.shape}, {weight.shape}"
            )
        if len(row) and (
            min(int(row.min()), int(column.min())) < 0 or max(int(row.max()), int(column.max())) >= num_nodes
        ):
            raise ValueError(f"an edge names a node outside 0..{num_nodes - 1}")
        if not weight.isfinite().all():
            raise ValueError("an edge has a weight that is no finite number")
        matrix = torch.sparse_coo_tensor(
            torch.stack([row, column]), weight, (num_nodes, num_nodes), check_invariants=False
        ).coalesce()
        indices = matrix.indices()
        return cls(num_nodes, indices[0], indices[1], matrix.values())

    @property
    def num_edges(self) -> int:
        return len(self.weight)

    def to(self, device: torch.device | str) -> Graph:
        return Graph(self.num_nodes, self.row.to(device), self.column.to(device), self.weight.to(device))

    def subgraph(self, rows: Tensor) -> Graph:
        """The graph among the given nodes, renumbered in their order."""
        place = torch.full((self.num_nodes,), -1, dtype=torch.int64, device=self.row.device)
        place[rows] = torch.arange(len(rows), device=self.row.device)
        keep = (place[self.row] >= 0) & (place[self.column] >= 0)
        return Graph.from_edges(place[self.row[keep]], place[self.column[keep]], self.weight[keep], num_nodes=len(rows))

    @cached_property
    def reversed(self) -> Graph:
        """The same edges the other way round: A transposed."""
        return Graph.from_edges(self.column, self.row, self.weight, num_nodes=self.num_nodes)

    @cached_property
    def undirected(self) -> Graph:
        """The graph of (A + A^T) / 2, for layers whose theory needs a symmetric matrix.

        A sensor that others gather from has a degree here even if it gathers from nobody, so that D^-1/2 A D^-1/2
        stays within a spectrum of -1 to 1.
        """
        row, column = torch.cat([self.row, self.column]), torch.cat([self.column, self.row])
        return Graph.from_edges(row, column, torch.cat([self.weight, self.weight]) / 2, num_nodes=self.num_nodes)

    def dense(self) -> Tensor:
        """(N, N) raw weights; only for methods that need every pair."""
        matrix = self.weight.new_zeros(self.num_nodes, self.num_nodes)
        matrix[self.row, self.column] = self.weight
        return matrix

    def propagate(self, x: Tensor, *, normalise: Normalisation = "row") -> Tensor:
        """Normalised A @ x along the node axis: x (..., N, C) -> (..., N, C).

        `row` divides by the row sum + 1e-6 (the operator of EAC's public code), `symmetric` is D^-1/2 A D^-1/2.
        """
        nodes = x.movedim(-2, 0)  # (N, ..., C): no copy where nodes come first in memory
        out = self.operator(normalise)(nodes.flatten(1))
        return out.view(nodes.shape).movedim(0, -2)

    def operator(self, normalise: Normalisation = "row") -> Operator:
        """The normalised matrix, kept with its transpose; made on first use."""
        return self._operators[normalise]

    @cached_property
    def _operators(self) -> _Operators:
        return _Operators(self)


@dataclass(frozen=True, eq=False)
class Operator:
    """A matrix without gradient that multiplies (N, M), with its transpose at hand; dense or sparse by cost."""

    matrix: Tensor
    transpose: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """matrix @ x, with a gradient for x."""
        out: Tensor = _Product.apply(x, self)
        return out


class _Operators(dict[Normalisation, Operator]):
    """Normalised matrices of one graph, made on first use."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __missing__(self, normalise: Normalisation) -> Operator:
        graph = self.graph
        degree = graph.weight.new_zeros(graph.num_nodes).index_add_(0, graph.row, graph.weight)
        weight = graph.weight
        if normalise == "row":
            weight = weight / (degree + EPSILON)[graph.row]
        elif normalise == "symmetric":
            scale = (degree + EPSILON).rsqrt()
            weight = weight * scale[graph.row] * scale[graph.column]
        scaled = Graph(graph.num_nodes, graph.row, graph.column, weight)
        if is_dense(graph.num_nodes, graph.num_edges):
            matrix = scaled.dense()
            self[normalise] = Operator(matrix, matrix.t().contiguous())
        else:
            self[normalise] = Operator(_csr(scaled, graph.row, graph.column), _csr(scaled, graph.column, graph.row))
        return self[normalise]


def is_dense(num_nodes: int, num_edges: int) -> bool:
    """Whether a dense product is the faster one (`benchmarks/propagation.py` measures it)."""
    return num_nodes <= DENSE_NODES or num_edges * SPARSE_COST > num_nodes**2


def _csr(graph: Graph, row: Tensor, column: Tensor) -> Tensor:
    size = (graph.num_nodes, graph.num_nodes)
    matrix = torch.sparse_coo_tensor(torch.stack([row, column]), graph.weight, size, check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return matrix.coalesce().to_sparse_csr()


class _Product(torch.autograd.Function):
    """matrix @ x with the transpose for the backward pass; the matrix gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Operator) -> Tensor:
        ctx.operator = operator
        return operator.matrix @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.transpose @ gradient.contiguous(), None
