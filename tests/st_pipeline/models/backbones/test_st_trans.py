"""ST-Trans: its size, its arithmetic between the layers, what its forecast depends on, and the paper's ablations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from st_pipeline.errors import InputError
from st_pipeline.layers.surroundings import surroundings
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.st_trans import STTrans
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, SeriesShape, Window

NODES = 6
SHAPE = SeriesShape(window=4, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
SMALL = {"hidden": 8, "heads": 2, "layers": 2, "encoder": 1, "feedforward": 12, "keep": 3, "near": 2, "recent": 2}
METR_LA = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
ABLATIONS = {
    "no_align": {"search": "none"},
    "static_value": {"bases": 1},
    "dense": {"search": "dense"},
    "fixed_pos": {"positions": "fixed"},
    "no_window": {"near": 0},
}


def make(shape: SeriesShape = SHAPE, **options: Any) -> STTrans:
    torch.manual_seed(0)
    return backbones.build({"name": "st_trans", **SMALL, "nodes": 2, **options}, shape=shape).eval()


def size(shape: SeriesShape = METR_LA, **options: Any) -> int:
    with torch.device("meta"):
        return count_parameters(backbones.build({"name": "st_trans", **options}, shape=shape))


def stirred(model: STTrans) -> STTrans:
    """Biases, normalisations and positions too are no longer what they are at first."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def square(width: int) -> int:
    """Parameters of a linear layer that keeps the width."""
    return width * width + width


def test_the_size_is_that_of_the_specified_parts() -> None:
    d, wide, heads, bases = 256, 1024, 8, 4
    projections = 3 * square(d)
    values = bases * heads * d * (d // heads)
    fusion = 2 * (2 * d * d + d)
    network = 2 * d * wide + d + wide
    specified = projections + values + fusion + network
    assert round(specified / 1e6, 2) == 1.25  # of a cross layer, as derived in the specification
    mixer = (d * 64 + 64) + (64 * bases * heads + bases * heads)
    layer = specified + mixer + heads * 32 * (12 + 12 - 1) + 2 * d
    encoder = 4 * square(d) + network + 2 * 2 * d
    embedding = 2 * d + (288 + 7) * d + 207 * d + 12 * d + square(d) + 2 * d
    assert size() == 4 * layer + 2 * encoder + embedding + d + 1 == 6_868_865


def test_what_the_ablations_leave_out() -> None:
    positions = 4 * 8 * 32 * 23
    left_out = {name: size() - size(**options) for name, options in ABLATIONS.items()}
    assert left_out == {
        "no_align": positions + 4 * 2 * square(256),
        "static_value": 4 * (3 * 256 * 256 + (256 * 64 + 64) + (64 * 32 + 32)),
        "dense": 0,
        "fixed_pos": positions,
        "no_window": 0,
    }
    assert size(search="two_stage") == size()


def crossed(weights: dict[str, Tensor], prefix: str, state: Tensor, found: Tensor) -> Tensor:
    """What a cross layer makes of a state and of what was found for it."""
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    both = torch.cat([state, found], dim=-1)
    fused = gelu(both @ own["fusion.fuse.weight"].T + own["fusion.fuse.bias"])
    gate = (both @ own["fusion.gate.weight"].T + own["fusion.gate.bias"]).sigmoid()
    state = layer_norm(state + gate * fused, state.shape[-1:], own["fusion.norm.weight"], own["fusion.norm.bias"])
    hidden = gelu(state @ own["network.0.weight"].T + own["network.0.bias"])
    return state + hidden @ own["network.2.weight"].T + own["network.2.bias"]


def plain(model: STTrans, window: Window, graph: Graph) -> Tensor:
    """Forecast (B, H, N): tokens and queries row by row, torch's own encoder layer, the alignment as it is."""
    weights = model.state_dict()
    batch, steps, nodes, _ = window.values.shape
    width, ahead = model.width, model.shape.horizon
    rows = weights["sensors.rows"]

    def calendar(place: int, step: int) -> Tensor:
        slot, day = window.time_of_day[place, step], window.day_of_week[place, step]
        return weights["calendar.time_of_day"][slot] + weights["calendar.day_of_week"][day]

    memory = torch.empty(batch, nodes, steps, width)
    for place in range(batch):
        for n in range(nodes):
            for t in range(steps):
                read = weights["readings.weight"] @ window.values[place, t, n] + weights["readings.bias"]
                memory[place, n, t] = read + calendar(place, t) + rows[n]
    layer = torch.nn.TransformerEncoderLayer(
        width, SMALL["heads"], SMALL["feedforward"], activation="gelu", batch_first=True, norm_first=True
    ).eval()
    own = {name.removeprefix("encoder.0.layer."): value for name, value in weights.items() if "encoder.0" in name}
    parts = ("query", "key", "value")
    layer.self_attn.in_proj_weight.copy_(torch.cat([own[f"attention.{part}.weight"] for part in parts]))
    layer.self_attn.in_proj_bias.copy_(torch.cat([own[f"attention.{part}.bias"] for part in parts]))
    for theirs, ours in (("self_attn.out_proj", "attention.out"), ("linear1", "inward"), ("linear2", "outward")):
        layer.get_parameter(f"{theirs}.weight").copy_(own[f"{ours}.weight"])
        layer.get_parameter(f"{theirs}.bias").copy_(own[f"{ours}.bias"])
    for name in ("norm1", "norm2"):
        layer.get_submodule(name).load_state_dict({key: own[f"{name}.{key}"] for key in ("weight", "bias")})
    memory = layer(memory.flatten(0, 1)).view_as(memory)
    memory = layer_norm(memory, (width,), weights["norm.weight"], weights["norm.bias"])
    state = torch.empty(batch, nodes, ahead, width)
    for place in range(batch):
        for n in range(nodes):
            last = weights["last.weight"] @ memory[place, n, -1] + weights["last.bias"]
            for tau in range(ahead):
                state[place, n, tau] = weights["ahead.weight"][tau] + rows[n] + calendar(place, steps + tau) + last
    places = surroundings(graph, buckets=32, near=SMALL["near"])
    for number, cross in enumerate(model.layers):
        state = crossed(weights, f"layers.{number}.", state, cross.alignment(state, memory, places))
    return (state @ weights["out.weight"][0] + weights["out.bias"]).transpose(1, 2)


@torch.no_grad()
def test_the_forecast_is_that_of_the_formulas(random_window, random_graph) -> None:
    model, window, graph = stirred(make()), random_window(SHAPE), random_graph(NODES)
    torch.testing.assert_close(model(window, graph), plain(model, window, graph), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_forecast_depends_on_the_calendar_of_its_own_step(random_window, random_graph) -> None:
    model, window, graph = stirred(make()), random_window(SHAPE), random_graph(NODES)
    forecast = model(window, graph)
    for name, count in (("time_of_day", 24), ("day_of_week", 7)):
        moved = getattr(window, name).clone()
        moved[:, 5] = (moved[:, 5] + 1) % count
        changed = (model(window._replace(**{name: moved}), graph) != forecast).any(0).any(-1)
        assert changed.tolist() == [False, True, False]


@torch.no_grad()
def test_the_graph_says_who_is_far(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    assert not torch.allclose(model(window, random_graph(NODES, share=0.1)), model(window, random_graph(NODES)))
    alone = make(search="none")
    assert torch.equal(alone(window, random_graph(NODES, share=0.1)), alone(window, random_graph(NODES)))


@torch.no_grad()
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_forecasts_something_else(name: str, random_window, random_graph) -> None:
    full, model = stirred(make()), stirred(make(**ABLATIONS[name]))
    model.load_state_dict({key: value for key, value in full.state_dict().items() if "basis" not in key}, strict=False)
    window, graph = random_window(SHAPE), random_graph(NODES)
    if name == "fixed_pos":  # differs in what training may change, not in the arithmetic
        model.layers.load_state_dict(full.layers.state_dict())
        assert torch.equal(model(window, graph), full(window, graph))
        assert not any("position" in part for part, _ in model.named_parameters())
        return
    assert not torch.allclose(model(window, graph), full(window, graph), atol=1e-3)


@torch.no_grad()
def test_without_alignment_a_forecast_is_the_sensor_s_own_business(random_window, random_graph) -> None:
    window, graph = random_window(SHAPE), random_graph(NODES)
    other = window._replace(values=window.values.clone())
    other.values[:, :, 2] += 1
    alone, full = (stirred(make(**options, bases=1)) for options in ({"search": "none"}, {"search": "dense"}))
    moved = [(model(other, graph) - model(window, graph)).abs().amax((0, 1)) > 1e-6 for model in (alone, full)]
    assert moved[0].tolist() == [place == 2 for place in range(NODES)]
    assert moved[1].all()


@torch.no_grad()
def test_the_attention_graph_of_each_layer(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    found = model.attention(window, graph)
    assert len(found) == 2
    for layer in found:
        assert layer.node.shape == layer.weight.shape == (3, NODES, 3, 3 + 2 * 2)
        torch.testing.assert_close(layer.weight.sum(-1), torch.ones(3, NODES, 3))
    assert not torch.equal(found[0].weight, found[1].weight)


def test_some_sensors_alone_are_a_network_of_their_own(assert_own_network) -> None:
    assert_own_network(make(), SHAPE)


@pytest.mark.parametrize("options", [{}, {"search": "two_stage"}, *ABLATIONS.values()], ids=str)
def test_all_parameters_learn(options: dict[str, Any], random_window, random_graph) -> None:
    model, window = make(**options), random_window(SHAPE)
    model(window, random_graph(NODES)).square().sum().backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if parameter.numel())


@pytest.mark.parametrize("search", ["exact", "two_stage"])
def test_a_short_training_lowers_the_loss_and_goes_on_with_new_sensors(search: str, learned_twice) -> None:
    _, later = learned_twice({"name": "st_trans", **SMALL, "search": search, "layers": 1})
    assert later.under("weights")["sensors.rows"].shape == (6, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads is 3, expected a divisor of hidden, which is 8"),
        ({"keep": 0}, "keep is 0, expected at least 1"),
        ({"bases": 0}, "bases is 0, expected at least 1"),
        ({"near": -1}, "near is -1, expected at least 0"),
        ({"encoder": -1}, "encoder is -1, expected at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0, expected at least 0 and below 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'st_trans': {message}"):
        make(**options)
