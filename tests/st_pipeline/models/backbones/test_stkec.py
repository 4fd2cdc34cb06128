"""STKEC's network: its size, its arithmetic against the formulas, and when the memory is told about clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor
from torch.nn.functional import conv1d

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stkec import STKEC
from st_pipeline.models.base import count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import SeriesShape, Target

PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=8, steps_per_day=288)


def deep(weights: dict[str, Tensor], x: Tensor, adjacency: Tensor) -> Tensor:
    """Z (B, N, 12) of x (B, N, 12), as continual-methods, section 2.1, has it."""
    batch, nodes, _ = x.shape
    operator = adjacency / (adjacency.sum(1, keepdim=True) + 1e-6)

    def gcn(h: Tensor, name: str) -> Tensor:
        mixed = operator @ h @ weights[f"{name}.neighbour.weight"].T + weights[f"{name}.neighbour.bias"]
        return mixed + h @ weights[f"{name}.own.weight"].T

    h = torch.relu(gcn(x, "gcn1"))
    h = conv1d(h.reshape(batch * nodes, 1, -1), weights["tcn.weight"], weights["tcn.bias"], padding=1)
    return gcn(h.reshape(batch, nodes, -1), "gcn2")


def forecast(weights: dict[str, Tensor], z: Tensor, x: Tensor, *, softmax: bool) -> Tensor:
    """(B, H, N) of section 4.2."""
    attention = z @ weights["memory.patterns"].T
    read = (attention.softmax(-1) if softmax else attention) @ weights["memory.patterns"]
    out = torch.relu(z + x + read) @ weights["fc.weight"].T + weights["fc.bias"]
    return out.transpose(1, 2)


def squared(found: Tensor, target: Target) -> Tensor:
    return ((found - target.values) ** 2).mean()


@pytest.fixture
def target() -> Target:
    return Target(torch.randn(3, 12, 8), torch.ones(3, 12, 8, dtype=torch.bool))


def test_the_published_form_has_3596_parameters() -> None:
    model = backbones.build({"name": "stkec"}, shape=PUBLISHED)
    assert count_parameters(model) == 3596
    sizes = {name: count_parameters(part) for name, part in model.named_children()}
    assert sizes == {"gcn1": 1600, "tcn": 4, "gcn2": 1548, "memory": 288, "fc": 156}


@pytest.mark.parametrize("published", [True, False])
def test_the_forecast_is_that_of_the_formulas(random_window, random_graph, published: bool) -> None:
    torch.manual_seed(0)
    model, graph, window = STKEC(PUBLISHED, published=published), random_graph(8), random_window(PUBLISHED)
    x, weights = window.values[..., 0].transpose(1, 2), model.state_dict()
    expected = forecast(weights, deep(weights, x, graph.dense()), x, softmax=not published)
    torch.testing.assert_close(model(window, graph), expected, rtol=1e-5, atol=1e-6)
    other = forecast(weights, deep(weights, x, graph.dense()), x, softmax=published)
    assert not torch.allclose(expected, other, atol=1e-3)


def test_the_prompt_enters_before_the_first_convolution_and_not_the_residual(random_window, random_graph) -> None:
    torch.manual_seed(0)
    inner = STKEC(PUBLISHED)
    model, graph, window = PromptPool(inner, rank=6), random_graph(8), random_window(PUBLISHED)
    with torch.no_grad():
        for parameter in model.prompts.parameters():
            parameter.mul_(5)
    x, weights = window.values[..., 0].transpose(1, 2), inner.state_dict()
    z = deep(weights, x + model.prompts().detach(), graph.dense())
    torch.testing.assert_close(model(window, graph), forecast(weights, z, x, softmax=False), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(window, graph), inner(window, graph), atol=1e-3)


def test_patterns_and_hidden_width_are_options(random_window, random_graph) -> None:
    model = backbones.build({"name": "stkec", "patterns": 80, "hidden": 5}, shape=PUBLISHED)
    assert model.memory.patterns.shape == (80, 12)
    assert model.gcn1.own.out_features == 5
    assert model.working_width == 12 + 80
    assert model(random_window(PUBLISHED), random_graph(8)).shape == (3, 12, 8)
    with pytest.raises(InputError, match="at least 1"):
        backbones.build({"name": "stkec", "patterns": 0}, shape=PUBLISHED)


def test_published_training_leaves_the_constant_clustering_loss_out(random_window, random_graph, target) -> None:
    model, graph, window = STKEC(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    plain = model.training_loss(window, target, graph, squared)
    model.node_clusters = torch.arange(8)
    assert torch.equal(model.training_loss(window, target, graph, squared), plain)


def test_the_clustering_loss_is_a_tenth_of_the_cross_entropy_of_the_attention(
    random_window, random_graph, target
) -> None:
    model, graph, window = STKEC(PUBLISHED, published=False), random_graph(8), random_window(PUBLISHED)
    plain = model.training_loss(window, target, graph, squared)
    model.node_clusters = torch.tensor([0, 3, -1, 23, 3, -1, 7, 1])
    found = model.training_loss(window, target, graph, squared)
    weights = model.state_dict()
    z = deep(weights, window.values[..., 0].transpose(1, 2), graph.dense())
    logs = log_softmax((z @ weights["memory.patterns"].T).numpy(), axis=-1)
    known = [(node, int(own)) for node, own in enumerate(model.node_clusters) if own >= 0]
    expected = -np.mean([logs[batch, node, own] for batch in range(3) for node, own in known])
    torch.testing.assert_close(found - plain, torch.tensor(0.1 * expected), rtol=1e-4, atol=1e-6)


def test_the_clustering_loss_teaches_the_memory(random_window, random_graph, target) -> None:
    model, graph, window = STKEC(PUBLISHED, published=False), random_graph(8), random_window(PUBLISHED)
    model.node_clusters = torch.arange(8)
    model.training_loss(window, target, graph, lambda found, _: 0 * found.sum()).backward()
    assert model.memory.patterns.grad is not None
    assert model.memory.patterns.grad.any()
    assert model.gcn1.own.weight.grad is not None
    assert model.gcn1.own.weight.grad.any()


def test_without_a_single_cluster_there_is_no_clustering_loss(random_window, random_graph, target) -> None:
    model, graph, window = STKEC(PUBLISHED, published=False), random_graph(8), random_window(PUBLISHED)
    plain = model.training_loss(window, target, graph, squared)
    model.node_clusters = torch.full((8,), -1)
    torch.testing.assert_close(model.training_loss(window, target, graph, squared), plain)


def test_clusters_are_no_part_of_what_is_stored(random_window) -> None:
    model = STKEC(PUBLISHED)
    names = model.state_dict().keys()
    model.node_clusters = torch.arange(8)
    assert model.state_dict().keys() == names
    assert "node_clusters" not in dict(model.named_parameters()) | dict(model.named_buffers())
