"""What several backbones promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, NodeSet, SeriesShape, Window


@pytest.fixture
def assert_alone(random_window, random_graph) -> Callable[[Forecaster, SeriesShape], None]:
    """`assert_alone(model, shape)`: the forecast of a sensor changes with its own readings, and with nothing else."""

    def check(model: Forecaster, shape: SeriesShape) -> None:
        window, nodes = random_window(shape), shape.num_nodes
        values = window.values.clone()
        values[:, :, 1] += 1
        before = model(window, random_graph(nodes, seed=1))
        changed = model(window._replace(values=values), random_graph(nodes)) != before
        assert changed.any((0, 1)).tolist() == [node == 1 for node in range(nodes)]

    return check


@pytest.fixture
def assert_batch_matters(random_window, random_graph) -> Callable[..., None]:
    """`assert_batch_matters(model, shape)`: in training a window's forecast depends on the others of its batch."""

    def check(model: Forecaster, shape: SeriesShape, *, change: float = 1e-3) -> None:
        window, graph = random_window(shape), random_graph(shape.num_nodes)
        first = Window(*(part[:1] for part in window))
        assert not model.divisible
        torch.testing.assert_close(model(first, graph), model(window, graph)[:1], rtol=1e-4, atol=1e-5)
        model.train()
        assert not torch.allclose(model(first, graph), model(window, graph)[:1], atol=change)

    return check


@pytest.fixture
def assert_trains_alone(random_window) -> Callable[[Forecaster, SeriesShape], None]:
    """`assert_trains_alone(model, shape)`: one window of one sensor gives every parameter a finite gradient."""

    def check(model: Forecaster, shape: SeriesShape) -> None:
        window = Window(*(part[:1] for part in random_window(shape)))
        model.train()(window, Graph.from_edges([], [], [], num_nodes=1)).square().sum().backward()
        assert all(part.grad is not None and part.grad.isfinite().all() for part in model.parameters())

    return check


@pytest.fixture
def assert_own_network(random_window, random_graph) -> Callable[[Forecaster, SeriesShape], None]:
    """`assert_own_network(model, shape)`: restricted to some sensors, a model works as if there were no others."""

    @torch.no_grad()
    def check(model: Forecaster, shape: SeriesShape) -> None:
        window, graph = random_window(shape), random_graph(shape.num_nodes)
        names = [f"sensor {row}" for row in range(shape.num_nodes)]
        model.expand(NodeSet.of(names))
        rows = torch.tensor([3, 1])
        some = window._replace(values=window.values[:, :, rows], observed=window.observed[:, :, rows])
        with restricted(model, rows):
            found = model(some, graph.subgraph(rows))
        model.expand(NodeSet.of([names[3], names[1]]))
        torch.testing.assert_close(found, model(some, graph.subgraph(rows)))

    return check
