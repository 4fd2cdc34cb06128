"""STGCN: its size, its arithmetic against a plain copy, and what its forecast depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stgcn import STGCN
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape, Window

NODES = 6
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SHAPE = replace(PUBLISHED, num_nodes=NODES)
OTHER = SeriesShape(window=5, horizon=3, channels=6, num_nodes=NODES, steps_per_day=24)
WIDE = {"hidden": 8, "spatial": 4, "output": 16}
NARROW = {"hidden": 4, "spatial": 8, "output": 3, "kernel": 2, "blocks": 3}


def make(shape: SeriesShape = SHAPE, **options: Any) -> STGCN:
    """One whose scales and shifts are not those it starts with."""
    torch.manual_seed(0)
    model: STGCN = backbones.build({"name": "stgcn", **options}, shape=shape)
    with torch.no_grad():
        for norm in (*model.norms, model.norm):
            for parameter in norm.parameters():
                parameter.normal_(0, 0.5)
    return model.eval()


def align(weights: dict[str, Tensor], name: str, x: Tensor, outputs: int) -> Tensor:
    if f"{name}.align.linear.weight" in weights:
        return linear(x, weights[f"{name}.align.linear.weight"], weights[f"{name}.align.linear.bias"])
    return pad(x, (0, outputs - x.shape[-1]))


def gated(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """(P + x) * sigmoid(Q), one step and one tap at a time."""
    weight, bias = weights[f"{name}.conv.conv.weight"], weights[f"{name}.conv.conv.bias"]
    outputs, taps = len(bias) // 2, weight.shape[2]
    steps = []
    for step in range(x.shape[1] - taps + 1):
        both = bias + sum(x[:, step + tap] @ weight[:, :, tap, 0].T for tap in range(taps))
        own = align(weights, name, x[:, step + taps - 1], outputs)
        steps.append((both[..., :outputs] + own) / (1 + torch.exp(-both[..., outputs:])))
    return torch.stack(steps, dim=1)


def spectral(weights: dict[str, Tensor], name: str, x: Tensor, adjacency: Tensor) -> Tensor:
    """Chebyshev polynomials of the scaled Laplacian 2 L / 2 - 1 of the undirected graph."""
    weight, one = weights[f"{name}.conv.weight"], torch.eye(NODES)
    z = align(weights, name, x, weight.shape[2])
    both = (adjacency + adjacency.T) / 2
    scale = torch.diag((both.sum(1) + 1e-6) ** -0.5)
    scaled = (one - scale @ both @ scale) - one
    polynomials = (one, scaled, 2 * scaled @ scaled - one)
    terms = [matrix @ z @ own for matrix, own in zip(polynomials, weight, strict=True)]
    return torch.relu(z + sum(terms) + weights[f"{name}.conv.bias"])


def normal(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    scale, shift = weights[f"{name}.scale.rows"], weights[f"{name}.shift.rows"]
    layer = nn.LayerNorm(scale.shape)
    layer.load_state_dict({"weight": 1 + scale, "bias": shift})
    return layer(x)


def plain(model: STGCN, window: Window, adjacency: Tensor, prompt: Tensor) -> Tensor:
    """Forecast (B, H, N) from the formulas alone."""
    weights, x = model.state_dict(), window.values
    x = pad(x, (0, 0, 0, 0, max(0, model.span - x.shape[1]), 0))
    for block in range(len(model.inward)):
        x = gated(weights, f"inward.{block}", x) + (0 if block else prompt)
        x = spectral(weights, f"graphs.{block}", x, adjacency)
        x = normal(weights, f"norms.{block}", gated(weights, f"outward.{block}", x))
    x = normal(weights, "norm", gated(weights, "collapse", x))[:, 0]
    x = torch.relu(linear(x, weights["fc1.weight"], weights["fc1.bias"]))
    return linear(x, weights["fc2.weight"], weights["fc2.bias"]).transpose(1, 2)


def test_its_size_is_the_published_one_without_layers_that_are_never_used() -> None:
    with torch.device("meta"):
        found = count_parameters(backbones.build("stgcn", shape=PUBLISHED))
    assert found == 231_244
    # the public code also makes the 1x1 convolutions of residuals that are only filled up or passed on: 1 -> 64,
    # 16 -> 64 twice, 64 -> 64, 64 -> 128
    unused = sum((inputs + 1) * outputs for inputs, outputs in ((1, 64), (16, 64), (16, 64), (64, 64), (64, 128)))
    assert found + unused == 246_028


@pytest.mark.parametrize(
    ("shape", "options"),
    [(SHAPE, WIDE), (SHAPE, NARROW), (OTHER, WIDE), (OTHER, NARROW)],
    ids=["published-wide", "published-narrow", "other-wide", "other-narrow"],
)
def test_the_forecast_is_that_of_the_formulas(shape, options, random_window, random_graph) -> None:
    model, window, graph = make(shape, **options), random_window(shape), random_graph(NODES)
    prompt = torch.randn(NODES, model.width)
    found = model.prompted(prompt, window, graph)
    expected = plain(model, window, graph.dense(), prompt)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_first_convolution_gives_each_step_from_it_and_the_two_before(random_window, random_graph) -> None:
    model, window, graph = make(**WIDE), random_window(SHAPE), random_graph(NODES)
    values = window.values.clone()
    values[:, 4] += 1
    before, after = (model.embed(one, graph) for one in (window, window._replace(values=values)))
    differs = (before - after).abs().amax((0, 2, 3)) > 1e-6
    assert differs.nonzero().flatten().tolist() == [2, 3, 4]


def test_every_step_of_a_long_window_matters(random_window, random_graph) -> None:
    shape = replace(SHAPE, window=20)
    model, window, graph = make(shape, **WIDE), random_window(shape), random_graph(NODES)
    assert model.deep == (12, 8)
    forecast = model(window, graph)
    for step in range(20):
        values = window.values.clone()
        values[:, step] += torch.arange(NODES)[:, None]
        assert not torch.allclose(model(window._replace(values=values), graph), forecast, atol=1e-5), step


def test_the_direction_of_the_edges_does_not_matter_and_the_edges_do(random_window, random_graph) -> None:
    model, window, graph = make(**WIDE), random_window(SHAPE), random_graph(NODES)
    forecast = model(window, graph)
    torch.testing.assert_close(model(window, graph.reversed), forecast, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(window, random_graph(NODES, seed=1)), forecast, atol=1e-3)


def test_dropout_is_there_in_training_alone(random_window, random_graph) -> None:
    model, window, graph = make(**WIDE), random_window(SHAPE), random_graph(NODES)
    sure = make(**WIDE, dropout=0.0)
    assert (model.divisible, sure.divisible) == (False, True)
    assert torch.equal(model(window, graph), sure(window, graph))
    assert not torch.equal(model.train()(window, graph), model(window, graph))
    assert torch.equal(sure.train()(window, graph), sure.eval()(window, graph))


def test_two_epochs_lower_the_loss(make_learner, make_stream, make_history, compute) -> None:
    first = next(iter(make_history(make_stream()).values()))
    training = {"epochs": 2, "batch": 16}
    learner = make_learner("online", prompt_pool=None, backbone={"name": "stgcn", **WIDE}, training=training)
    facts = learner.learn(first, None, compute=compute)["backbone"].facts
    assert facts["train_loss"][1] < 0.95 * facts["train_loss"][0]


@pytest.mark.parametrize("option", ["blocks", "hidden", "spatial", "output", "kernel"])
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=rf"backbone 'stgcn': {option} is 0, expected at least 1"):
        make(**{option: 0})


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_dropout_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=rf"backbone 'stgcn': dropout is {share}, expected a share"):
        make(dropout=share)
