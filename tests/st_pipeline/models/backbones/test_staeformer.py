"""STAEformer: its published size, its arithmetic written out, and what its forecast depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.staeformer import STAEformer
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape, Window

NODES, HEADS = 5, 2
SHAPE = SeriesShape(window=4, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
SMALL = {"inputs": 3, "day": 2, "week": 1, "adaptive": 4, "heads": HEADS, "feedforward": 6, "layers": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> STAEformer:
    torch.manual_seed(0)
    return backbones.build({"name": "staeformer", **SMALL, **options}, shape=shape).eval()


def attended(weights: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """One post-norm layer on one sequence (L, D), head by head."""
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    query, key, value = (
        linear(x, own[f"attention.{part}.weight"], own[f"attention.{part}.bias"]).chunk(HEADS, dim=-1)
        for part in ("query", "key", "value")
    )
    heads = [(q @ k.T / k.shape[1] ** 0.5).softmax(-1) @ v for q, k, v in zip(query, key, value, strict=True)]
    found = linear(torch.cat(heads, dim=-1), own["attention.out.weight"], own["attention.out.bias"])
    x = layer_norm(x + found, x.shape[-1:], own["norm1.weight"], own["norm1.bias"])
    hidden = torch.relu(linear(x, own["inward.weight"], own["inward.bias"]))
    more = linear(hidden, own["outward.weight"], own["outward.bias"])
    return layer_norm(x + more, x.shape[-1:], own["norm2.weight"], own["norm2.bias"])


def plain(model: STAEformer, window: Window) -> Tensor:
    """Forecast (B, H, N) of each window, step and sensor after the other."""
    weights, shape = model.state_dict(), model.shape
    steps, nodes = shape.window, window.values.shape[2]
    table = weights["adaptive.rows"].view(nodes, steps, -1)
    forecasts = []
    for place, values in enumerate(window.values):
        e = torch.empty(steps, nodes, model.width)
        for t in range(steps):
            slot, day = int(window.time_of_day[place, t]), int(window.day_of_week[place, t])
            for n in range(nodes):
                inputs = torch.tensor([*values[t, n].tolist(), slot / shape.steps_per_day, day])
                read = linear(inputs, weights["readings.weight"], weights["readings.bias"])
                rows = [weights["calendar.time_of_day"][slot], weights["calendar.day_of_week"][day], table[n, t]]
                e[t, n] = torch.cat([read, *rows])
        for layer in range(SMALL["layers"]):
            sequences = [attended(weights, f"along_time.{layer}.layer.", e[:, n]) for n in range(nodes)]
            e = torch.stack(sequences, dim=1)
        for layer in range(SMALL["layers"]):
            e = torch.stack([attended(weights, f"along_nodes.{layer}.layer.", step) for step in e])
        flat = e.transpose(0, 1).reshape(nodes, -1)
        forecasts.append(linear(flat, weights["fc.weight"], weights["fc.bias"]).T)
    return torch.stack(forecasts)


@pytest.mark.parametrize("nodes", [170, 207, 883])
def test_the_size_is_the_published_one(nodes: int) -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=nodes, steps_per_day=288)
    with torch.device("meta"):
        model = backbones.build("staeformer", shape=shape)
    assert count_parameters(model) == 1_258_980 + (nodes - 207) * 12 * 80


@torch.no_grad()
def test_the_forecast_is_that_of_the_formulas(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))  # biases and normalisations too
    found = model(window, random_graph(NODES))
    torch.testing.assert_close(found, plain(model, window), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_graph_is_not_used_and_every_sensor_is(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    forecast = model(window, random_graph(NODES))
    assert torch.equal(model(window, random_graph(NODES, seed=1)), forecast)
    other = window._replace(values=window.values.clone())
    other.values[:, -1, 2, 0] += 3
    assert ((model(other, random_graph(NODES)) - forecast).abs() > 1e-6).any(1).all()


@torch.no_grad()
def test_the_calendar_of_the_window_matters_and_that_of_the_forecast_does_not(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    forecast = model(window, graph)
    for name, size in (("time_of_day", 24), ("day_of_week", 7)):
        for steps, changes in ((slice(0, 4), True), (slice(4, 7), False)):
            moved = getattr(window, name).clone()
            moved[:, steps] = (moved[:, steps] + 1) % size
            assert torch.equal(model(window._replace(**{name: moved}), graph), forecast) != changes


@torch.no_grad()
def test_a_sensor_has_a_row_of_its_own_for_each_step(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    same = window._replace(values=torch.zeros_like(window.values))
    embedding = model.embed(same, random_graph(NODES))
    assert torch.equal(embedding[0, :, 3, -4:].flatten(), model.adaptive()[3])
    assert not torch.allclose(embedding[0, 0, 3], embedding[0, 0, 2])


def test_some_sensors_alone_are_a_network_of_their_own(assert_own_network) -> None:
    assert_own_network(make(), SHAPE)


def test_parts_of_the_embedding_may_be_left_out(random_window, random_graph) -> None:
    shape = SHAPE
    for without in ("day", "week", "adaptive"):
        model = make(shape, **{without: 0, "heads": 1})
        assert model.width == 10 - SMALL[without]
        assert model(random_window(shape), random_graph(NODES)).isfinite().all()


def test_a_short_training_lowers_the_loss_and_goes_on_with_new_sensors(learned_twice) -> None:
    _, later = learned_twice({"name": "staeformer", **SMALL})
    assert later.under("weights")["adaptive.rows"].shape == (6, 6 * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads is 3, expected a divisor of 10, which is inputs"),
        ({"inputs": 0}, "inputs is 0, expected at least 1"),
        ({"adaptive": -1}, "adaptive is -1, expected at least 0"),
        ({"layers": 0}, "layers is 0, expected at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0, expected at least 0 and below 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'staeformer': {message}"):
        make(**options)
