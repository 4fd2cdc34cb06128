"""Graph WaveNet: its size, its arithmetic against a plain copy, and what its forecast depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.graph_wavenet import GraphWaveNet
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, SeriesShape, Window

NODES = 6
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SHAPE = replace(PUBLISHED, num_nodes=NODES)
SHORT = SeriesShape(window=5, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
LONG = replace(SHORT, window=20)
SMALL = {"hidden": 6, "skip": 8, "end": 10, "adaptive": 3}


def make(shape: SeriesShape = SHAPE, **options: Any) -> GraphWaveNet:
    """One whose normalisation is not that which it starts with."""
    torch.manual_seed(0)
    model: GraphWaveNet = backbones.build({"name": "graph_wavenet", **SMALL, **options}, shape=shape)
    with torch.no_grad():
        for norm in model.norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return model.eval()


def inputs(model: GraphWaveNet, window: Window) -> Tensor:
    """(B, 13, N, C + 1): readings and the share of the day, zeros in front."""
    steps, nodes = window.values.shape[1:3]
    day = (window.time_of_day[:, :steps] / model.shape.steps_per_day)[..., None, None].expand(-1, -1, nodes, 1)
    x = torch.cat([window.values, day], dim=-1)
    return pad(x, (0, 0, 0, 0, max(0, 13 - steps), 0))[:, -13:]


def diffuse(weights: dict[str, Tensor], name: str, x: Tensor, matrices: list[Tensor]) -> Tensor:
    reached = [x] + [power @ x for matrix in matrices for power in (matrix, matrix @ matrix)]
    return linear(torch.cat(reached, dim=-1), weights[f"{name}.linear.weight"], weights[f"{name}.linear.bias"])


def normal(weights: dict[str, Tensor], name: str, x: Tensor, training: bool) -> Tensor:
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    if training:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def plain(model: GraphWaveNet, window: Window, adjacency: Tensor, prompt: Tensor) -> Tensor:
    """Forecast (B, H, N) from the formulas alone, without dropout."""
    weights = model.state_dict()
    matrices = [one / (one.sum(1, keepdim=True) + 1e-6) for one in (adjacency, adjacency.T)]
    if model.adaptive is not None:
        scores = torch.relu(weights["adaptive.source.rows"] @ weights["adaptive.target.rows"].T).exp()
        matrices.append(scores / scores.sum(1, keepdim=True))
    x = linear(inputs(model, window), weights["start.weight"], weights["start.bias"]) + prompt
    skip: Tensor | float = 0.0
    for layer, dilation in enumerate((1, 2, 1, 2, 1, 2, 1, 2)):
        kernel, bias = (weights[f"convolutions.{layer}.both.conv.{name}"] for name in ("weight", "bias"))
        both = linear(x[:, :-dilation], kernel[:, :, 0, 0]) + linear(x[:, dilation:], kernel[:, :, 1, 0], bias)
        signal, gate = both.split(model.hidden, dim=-1)
        found = torch.tanh(signal) * torch.sigmoid(gate)
        skip = skip + linear(found, weights[f"skips.{layer}.weight"], weights[f"skips.{layer}.bias"])[:, -1]
        if layer < 7:
            x = x[:, dilation:] + diffuse(weights, f"diffusions.{layer}", found, matrices)
            x = normal(weights, f"norms.{layer}", x, model.training)
    assert found.shape[1] == 1
    out = torch.relu(linear(torch.relu(skip), weights["end1.weight"], weights["end1.bias"]))
    return linear(out, weights["end2.weight"], weights["end2.bias"]).transpose(1, 2)


def test_its_size_is_the_published_one_without_layers_that_are_never_used() -> None:
    with torch.device("meta"):
        found = count_parameters(backbones.build("graph_wavenet", shape=PUBLISHED))
    assert found == 293_688
    residuals = 8 * (32 + 1) * 32  # 1x1 convolutions in place of a diffusion, made by the public code and not called
    last = (7 * 32 + 1) * 32 + 2 * 32  # the last layer's diffusion and normalisation, whose outcome nothing reads
    assert found + residuals + last == 309_400


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("adaptive", [3, 0])
@pytest.mark.parametrize("shape", [SHAPE, SHORT, LONG], ids=["published", "short", "long"])
def test_the_forecast_is_that_of_the_formulas(shape, adaptive, training, random_window, random_graph) -> None:
    model = make(shape, adaptive=adaptive, dropout=0.0).train(training)
    window, graph = random_window(shape), random_graph(NODES)
    prompt = torch.randn(NODES, model.width)
    expected = plain(model, window, graph.dense(), prompt)
    torch.testing.assert_close(model.prompted(prompt, window, graph), expected, rtol=1e-3, atol=1e-4)


def test_it_sees_the_last_thirteen_steps(random_window, random_graph) -> None:
    window, graph = random_window(LONG), random_graph(NODES)
    values = window.values.requires_grad_()
    (gradient,) = torch.autograd.grad(make(LONG)(window, graph).sum(), [values])
    assert gradient.abs().amax((0, 2, 3)).bool().tolist() == [step >= 7 for step in range(20)]


def test_the_time_of_day_matters_and_that_of_the_forecast_is_not_read(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    forecast = model(window, graph)
    for steps, same in ((slice(12), False), (slice(12, None), True)):
        moved = window.time_of_day.clone()
        moved[:, steps] = (moved[:, steps] + 100) % 288
        assert torch.equal(model(window._replace(time_of_day=moved), graph), forecast) == same


def test_sensors_without_edges_see_each_other_through_the_learned_graph_alone(random_window) -> None:
    window, edgeless = random_window(SHAPE), Graph.from_edges([], [], [], num_nodes=NODES)
    values = window.values.clone()
    values[:, :, 2] += 1
    for adaptive in (0, 3):
        model = make(adaptive=adaptive)
        before, after = (model(one, edgeless) for one in (window, window._replace(values=values)))
        differs = (before - after).abs().amax((0, 1)) > 1e-6
        assert differs.tolist() == [adaptive > 0 or node == 2 for node in range(NODES)]


def test_sensors_are_seen_along_and_against_the_edges(random_window) -> None:
    window, edge = random_window(SHAPE), Graph.from_edges([1], [4], [0.5], num_nodes=NODES)
    model = make(adaptive=0)
    for changed in (1, 4):
        values = window.values.clone()
        values[:, :, changed] += 1
        before, after = (model(one, edge) for one in (window, window._replace(values=values)))
        assert ((before - after).abs().amax((0, 1)) > 1e-6).nonzero().flatten().tolist() == [1, 4]


def test_windows_of_a_batch_matter_to_each_other_in_training_alone(assert_batch_matters) -> None:
    assert_batch_matters(make(dropout=0.0), SHAPE)


def test_a_reset_drops_the_running_statistics() -> None:
    model = make()
    model.reset()
    for norm in model.norms:
        assert not norm.running_mean.any()
        assert (norm.running_var == 1).all()


def test_two_epochs_lower_the_loss(make_learner, make_stream, make_history, compute) -> None:
    first = next(iter(make_history(make_stream()).values()))
    learner = make_learner("online", prompt_pool=None, backbone={"name": "graph_wavenet", **SMALL})
    facts = learner.learn(first, None, compute=compute)["backbone"].facts
    assert facts["train_loss"][1] < 0.95 * facts["train_loss"][0]


@pytest.mark.parametrize("option", ["blocks", "layers", "hidden", "skip", "end"])
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=rf"backbone 'graph_wavenet': {option} is 0, expected at least 1"):
        make(**{option: 0})


@pytest.mark.parametrize(("option", "value"), [("adaptive", -1), ("dropout", 1.0), ("dropout", -0.1)])
def test_options_outside_their_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"backbone 'graph_wavenet': {option} is {value}, expected"):
        make(**{option: value})
