"""A trained model as one `torch.export` program, with the graph among its constants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from st_pipeline.errors import InputError
from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, Window

MOST = 1 << 16  # windows of a batch that a program promises to take
TRIED = 3  # windows of the batch that is traced: one or two would be taken for constants


@dataclass(frozen=True)
class Program:
    """A program with the windows it takes at a time: any number, or one where the model's work depends on how many.

    Its inputs are the four parts of a `Window`, its output is the forecast (B, H, N) in model units.
    """

    exported: ExportedProgram
    any_batch: bool

    def dump(self) -> bytes:
        """The archive, without sample inputs: nothing in it is pickled."""
        buffer = BytesIO()
        torch.export.save(self.exported, buffer)
        return buffer.getvalue()


class _Bound(nn.Module):
    """A forecaster on one graph."""

    def __init__(self, forecaster: Forecaster, graph: Graph) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.graph = graph

    def forward(self, values: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        out: Tensor = self.forecaster(Window(values, observed, time_of_day, day_of_week), self.graph)
        return out


class Edges:
    """A sparse matrix as lists of its entries; `torch.export` has no constants in the compressed layout."""

    def __init__(self, matrix: Tensor) -> None:
        entries = matrix.to_sparse_coo().coalesce()
        self.size = tuple(matrix.shape)
        self.row, self.column = entries.indices().clone()  # no views of a sparse tensor, which cannot be traced
        self.weight = entries.values().clone()[:, None]

    def __matmul__(self, x: Tensor) -> Tensor:
        """(N, M) -> (N, M)."""
        gathered = x.index_select(0, self.column) * self.weight
        return x.new_zeros(self.size[0], x.shape[1]).index_add(0, self.row, gathered)

    def to_dense(self) -> Tensor:
        """(N, N)."""
        dense = self.weight.new_zeros(self.size)
        return dense.index_put((self.row, self.column), self.weight[:, 0])


def export_program(forecaster: Forecaster, graph: Graph, sample: Window) -> Program:
    """Trace a forecaster in evaluation, on the CPU.

    Args:
        sample: any window of the network, B = 1.

    Raises:
        InputError: the model does something that `torch.export` cannot follow.
    """
    own = graph.to("cpu")  # a graph keeps what is made of it, which must not be made while it is traced
    bound = _Bound(forecaster.eval(), own)
    with torch.no_grad():
        bound(*sample)
        _unpack(own)
        if forecaster.separable:
            batch = Window(*(part.expand(TRIED, *part.shape[1:]).contiguous() for part in sample))
            with suppress(Exception):  # what the model does depends on the number of windows
                return Program(_traced(bound, batch, {0: Dim("batch", min=1, max=MOST)}), any_batch=True)
        try:
            return Program(_traced(bound, sample, None), any_batch=False)
        except Exception as error:  # any complaint of the tracer means the same to the user
            reason = next(iter(str(error).strip().splitlines()), "")[:300]
            raise InputError(
                f"the model cannot be exported: torch.export does not follow it ({type(error).__name__}: {reason}); "
                "export another model of the stream, or forecast with `st-pipeline predict`"
            ) from None


def _traced(bound: _Bound, batch: Window, dynamic: dict[int, Dim] | None) -> ExportedProgram:
    shapes = None if dynamic is None else (dynamic,) * len(batch)
    exported = torch.export.export(bound, tuple(batch), dynamic_shapes=shapes, strict=False)
    exported.example_inputs = None
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of the machine it was traced on
    return exported


def _unpack(graph: Graph) -> None:
    """Sparse operators of a graph, and of those made of it, as lists of entries."""
    for operators in _operators(graph):
        for kind, operator in operators.items():
            if operator.matrix.layout != torch.strided:
                operators[kind] = replace(operator, matrix=Edges(operator.matrix))


def _operators(graph: Graph) -> Iterator[dict[str, Any]]:
    for name, value in vars(graph).items():
        if isinstance(value, Graph):
            yield from _operators(value)
        elif name == "_operators":
            yield value
