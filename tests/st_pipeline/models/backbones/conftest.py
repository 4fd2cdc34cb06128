"""What several backbones promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import Forecaster
from st_pipeline.training.checkpoint import Checkpoint
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


@pytest.fixture
def assert_loss_falls(make_learner, make_stream, make_history, compute) -> Callable[[dict[str, Any]], None]:
    """`assert_loss_falls(backbone)`: two epochs of a first period, the second with the smaller loss."""

    def check(backbone: dict[str, Any]) -> None:
        data, epochs = next(iter(make_history(make_stream()).values())), []
        learner = make_learner("online", prompt_pool=None, backbone=backbone)
        learner.learn(data, None, compute=compute, progress=epochs.append)
        assert [epoch.index for epoch in epochs] == [1, 2]
        assert epochs[1].loss < epochs[0].loss

    return check


@pytest.fixture
def learned_twice(make_learner, make_stream, make_history, compute) -> Callable[..., tuple[Checkpoint, Checkpoint]]:
    """`learned_twice(backbone, below=1)`: the backbone after each of two periods, the second with new sensors.

    Asserts that the loss of the first period's second epoch is below that share of its first epoch's.
    """

    def learn(backbone: dict[str, Any], *, below: float = 1) -> tuple[Checkpoint, Checkpoint]:
        history = list(make_history(make_stream()).values())
        learner = make_learner("online", prompt_pool=None, backbone=backbone)
        first = learner.learn(history[0], None, compute=compute)
        losses = first["backbone"].facts["train_loss"]
        assert losses[1] < below * losses[0]
        second = learner.learn(history[1], first, compute=compute, earlier=history[0])
        return first["backbone"], second["backbone"]

    return learn
