"""MTGNN: its size, its arithmetic against a plain copy, and what its forecast depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.mtgnn import MTGNN
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet, SeriesShape, Window

NODES = 6
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SHAPE = replace(PUBLISHED, num_nodes=NODES)
OTHER = SeriesShape(window=22, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
SMALL = {"hidden": 8, "skip": 6, "end": 10, "embedding": 5, "neighbours": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> MTGNN:
    """One whose scales and shifts are not those it starts with."""
    torch.manual_seed(0)
    model: MTGNN = backbones.build({"name": "mtgnn", **SMALL, **options}, shape=shape)
    with torch.no_grad():
        for norm in model.norms:
            for parameter in norm.parameters():
                parameter.normal_(0, 0.5)
    return model.eval()


def inputs(model: MTGNN, window: Window) -> Tensor:
    """(B, C + 1, N, S) as the publication has it: readings and the share of the day, zeros in front."""
    steps, nodes = window.values.shape[1:3]
    day = (window.time_of_day[:, :steps] / model.shape.steps_per_day)[..., None, None].expand(-1, -1, nodes, 1)
    x = torch.cat([window.values, day], dim=-1).permute(0, 3, 2, 1)
    return pad(x, (max(0, model.span - steps), 0))


def along_time(weights: dict[str, Tensor], name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """A convolution of (B, C, N, S) along its last axis."""
    weight = weights[f"{name}.conv.weight"].transpose(2, 3)
    return nn.functional.conv2d(x, weight, weights[f"{name}.conv.bias"], dilation=(1, dilation))


def inception(weights: dict[str, Tensor], name: str, x: Tensor, dilation: int) -> Tensor:
    parts = [along_time(weights, f"{name}.{place}", x, dilation) for place in range(4)]
    return torch.cat([part[..., -parts[-1].shape[-1] :] for part in parts], dim=1)


def mix_hop(weights: dict[str, Tensor], name: str, x: Tensor, adjacency: Tensor, keep: float) -> Tensor:
    walk = adjacency + torch.eye(NODES)
    walk = walk / walk.sum(1, keepdim=True)
    reached = [x]
    for _ in range(2):
        reached.append(keep * x + (1 - keep) * torch.einsum("nm,bcmt->bcnt", walk, reached[-1]))
    columns = torch.cat(reached, dim=1).movedim(1, -1)
    out = linear(columns, weights[f"{name}.linear.weight"], weights[f"{name}.linear.bias"])
    return out.movedim(-1, 1)


def normal(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Over features, nodes and steps of a window."""
    mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), correction=0, keepdim=True)
    scale, shift = (
        weights[f"{name}.{part}.rows"].view(NODES, x.shape[3], x.shape[1]).permute(2, 0, 1)
        for part in ("scale", "shift")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * (1 + scale) + shift


def plain(model: MTGNN, window: Window, prompt: Tensor, *, dilation: int = 1, keep: float = 0.05) -> Tensor:
    """Forecast (B, H, N) from the formulas alone, features before nodes before steps."""
    weights = model.state_dict()
    raw, adjacency = inputs(model, window), model.learner()
    x = (linear(raw.movedim(1, -1), weights["start.weight"], weights["start.bias"]) + prompt[:, None]).movedim(-1, 1)
    skip = along_time(weights, "skip_first", raw)
    for layer in range(len(model.norms)):
        factor = dilation**layer
        found = torch.tanh(inception(weights, f"convolutions.{layer}.filters", x, factor))
        found = found * torch.sigmoid(inception(weights, f"convolutions.{layer}.gates", x, factor))
        skip = skip + along_time(weights, f"skips.{layer}", found)
        gathered = mix_hop(weights, f"forward_hops.{layer}", found, adjacency, keep)
        gathered = gathered + mix_hop(weights, f"backward_hops.{layer}", found, adjacency.T, keep)
        x = normal(weights, f"norms.{layer}", x[..., -found.shape[-1] :] + gathered)
    skip = (skip + along_time(weights, "skip_last", x)).squeeze(-1).transpose(1, 2)
    out = torch.relu(linear(torch.relu(skip), weights["end1.weight"], weights["end1.bias"]))
    return linear(out, weights["end2.weight"], weights["end2.bias"]).transpose(1, 2)


def test_its_size_is_the_published_one_without_layers_that_are_never_used() -> None:
    with torch.device("meta"):
        found = count_parameters(backbones.build("mtgnn", shape=PUBLISHED))
    assert found == 402_284
    residuals = 3 * (32 + 1) * 32  # 1x1 convolutions in place of a propagation, made by the public code and not called
    assert found + residuals == 405_452


@pytest.mark.parametrize(
    ("shape", "options"),
    [(SHAPE, {}), (OTHER, {"keep": 0.4}), (SHAPE, {"dilation": 2, "layers": 2}), (OTHER, {"dilation": 2})],
    ids=["published", "long", "dilated-short", "dilated"],
)
def test_the_forecast_is_that_of_the_formulas(shape, options, random_window, random_graph) -> None:
    model, window, graph = make(shape, **options), random_window(shape), random_graph(NODES)
    prompt = torch.randn(NODES, model.width)
    formula = {key: value for key, value in options.items() if key != "layers"}
    expected = plain(model, window, prompt, **formula)
    torch.testing.assert_close(model.prompted(prompt, window, graph), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("window", "options", "span", "left"),
    [(12, {}, 19, [13, 7, 1]), (24, {}, 24, [18, 12, 6]), (12, {"dilation": 2}, 43, [37, 25, 1])],
)
def test_a_window_has_at_least_the_steps_that_the_layers_reach(window, options, span, left) -> None:
    model = make(replace(SHAPE, window=window), **options)
    assert (model.span, model.left) == (span, left)


def test_every_step_of_a_long_window_matters(random_window, random_graph) -> None:
    model, window, graph = make(OTHER), random_window(OTHER), random_graph(NODES)
    forecast = model(window, graph)
    for step in range(OTHER.window):
        values = window.values.clone()
        values[:, step] += 1
        assert not torch.allclose(model(window._replace(values=values), graph), forecast, atol=1e-5), step


def test_the_graph_is_learned_and_the_given_one_not_used(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    one, other = (random_graph(NODES, seed=seed) for seed in (0, 1))
    assert torch.equal(model(window, one), model(window, other))
    with torch.no_grad():
        model.learner.source.appended.neg_()
    assert not torch.allclose(model(window, one), plain(make(), window, torch.zeros(NODES, 8)), atol=1e-3)


def test_a_step_along_the_graph_and_against_it_are_averages() -> None:
    model, ones = make(neighbours=1), torch.ones(NODES, 1)
    adjacency = model.learner()
    for matrix, move in zip((adjacency, adjacency.T), model.moves(), strict=True):
        torch.testing.assert_close(move(ones), ones)
        found = move(torch.eye(NODES))
        assert torch.equal(found > 0, (matrix > 0) | torch.eye(NODES, dtype=torch.bool))
    assert ((adjacency > 0).sum(1) <= 1).all()


def test_what_the_inputs_say_themselves_is_not_prompted(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    hidden = torch.randn(3, 19, NODES, 8)
    empty = window._replace(values=torch.zeros_like(window.values))
    change = model.core(hidden, window, graph) - model.core(hidden, empty, graph)
    raw = inputs(model, window) - inputs(model, empty)
    weight = model.skip_first.conv.weight.transpose(2, 3)
    expected = nn.functional.conv2d(raw, weight).squeeze(-1).transpose(1, 2)
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-5)


def test_a_new_sensor_changes_no_weight_between_two_old_ones() -> None:
    model = make(neighbours=NODES + 1)
    model.expand(NodeSet.of("abcdef"))
    before = model.learner().detach()
    model.expand(NodeSet.of("abcdefg"))
    torch.testing.assert_close(model.learner()[:NODES, :NODES], before)


def test_dropout_is_there_in_training_alone(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    sure = make(dropout=0.0)
    assert (model.divisible, sure.divisible) == (False, True)
    assert torch.equal(model(window, graph), sure(window, graph))
    assert not torch.equal(model.train()(window, graph), model(window, graph))
    assert torch.equal(sure.train()(window, graph), sure.eval()(window, graph))


def test_two_epochs_lower_the_loss(make_learner, make_stream, make_history, compute) -> None:
    first = next(iter(make_history(make_stream()).values()))
    learner = make_learner("online", prompt_pool=None, backbone={"name": "mtgnn", **SMALL})
    facts = learner.learn(first, None, compute=compute)["backbone"].facts
    assert facts["train_loss"][1] < 0.95 * facts["train_loss"][0]


@pytest.mark.parametrize("option", ["layers", "dilation", "hidden", "skip", "end", "embedding", "neighbours", "order"])
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=rf"backbone 'mtgnn': {option} is 0, expected at least 1"):
        make(**{option: 0})


@pytest.mark.parametrize(("option", "value"), [("hidden", 30), ("keep", 1.0), ("dropout", -0.1)])
def test_options_outside_their_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"backbone 'mtgnn': {option} is {value}, expected"):
        make(**{option: value})
