"""A program forecasts as the model it was traced from, on dense and on sparse graphs."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.forecasting.program import Edges, export_program
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import ReLearner
from st_pipeline.types import Graph, NodeSet, SeriesShape, Window

NODES = 36  # so that few edges make a sparse product
SHAPE = SeriesShape(4, 2, channels=1, num_nodes=NODES, steps_per_day=24)
QUICK = ("dlinear", "stgnn")  # traced in seconds; `benchmarks.exporting` traces all


@pytest.fixture
def ring() -> Graph:
    node = torch.arange(NODES)
    row, column = torch.cat([node, node]), torch.cat([(node + 1) % NODES, (node + 2) % NODES])
    graph = Graph.from_edges(row, column, 0.1 + torch.arange(2 * NODES) % 7, num_nodes=NODES)
    assert graph.operator().matrix.layout == torch.sparse_csr
    return graph


def wrapped(name: str, variant: str) -> Forecaster:
    torch.manual_seed(0)
    model: Forecaster = backbones.build(name, shape=SHAPE)
    if variant != "bare":
        model = PromptPool(model, rank=2)
    if variant == "relearner":
        model = ReLearner(model, hidden=8, zero_init=False, kernels=("adaptive", "adjacency", "reversed"))
    model.expand(NodeSet.of(f"s{row}" for row in range(NODES)))
    return model.eval()


@pytest.mark.parametrize("variant", ["bare", "prompted", "relearner"])
@pytest.mark.parametrize("name", QUICK)
def test_the_loaded_program_is_the_model(name: str, variant: str, ring: Graph, random_window: Any) -> None:
    model = wrapped(name, variant)
    program = export_program(model, ring, random_window(SHAPE, batch=1))
    assert program.any_batch
    loaded = torch.export.load(io.BytesIO(program.dump())).module()
    for batch in (1, 2, 5):
        window = random_window(SHAPE, batch=batch, seed=batch)
        with torch.no_grad():
            torch.testing.assert_close(loaded(*window), model(window, ring), rtol=1e-5, atol=1e-5)


def test_edges_multiply_as_the_matrix(ring: Graph) -> None:
    matrix, x = ring.operator().matrix, torch.randn(NODES, 5, generator=torch.Generator().manual_seed(0))
    edges = Edges(matrix)
    torch.testing.assert_close(edges @ x, matrix @ x)
    assert torch.equal(edges.to_dense(), matrix.to_dense())


class _Counting(Forecaster):
    """A model whose work depends on how many windows there are, or on their values."""

    def __init__(self, *, on_values: bool) -> None:
        super().__init__()
        self.shape, self.on_values = SHAPE, on_values
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, window: Window, graph: Graph) -> Tensor:
        count = int(window.values.sum().item() > 0) if self.on_values else sum(1 for _ in window.values)
        out = window.values[:, -2:, :, 0] * self.scale
        return out if count else -out


def test_a_model_whose_work_depends_on_the_batch_takes_one_window(ring: Graph, random_window: Any) -> None:
    window = random_window(SHAPE, batch=1)
    program = export_program(_Counting(on_values=False), ring, window)
    assert not program.any_batch
    torch.testing.assert_close(program.exported.module()(*window), window.values[:, -2:, :, 0])


def test_a_model_that_cannot_be_traced_is_one_sentence(ring: Graph, random_window: Any) -> None:
    with pytest.raises(InputError, match=r"the model cannot be exported: torch.export does not follow it") as found:
        export_program(_Counting(on_values=True), ring, random_window(SHAPE, batch=1))
    assert "\n" not in str(found.value)
