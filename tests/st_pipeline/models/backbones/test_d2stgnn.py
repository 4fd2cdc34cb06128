"""D2STGNN: its published size, its arithmetic against a plain copy, and what its forecast depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.d2stgnn import D2STGNN
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, SeriesShape, Window

NODES = 5
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SHAPE = SeriesShape(window=6, horizon=4, channels=2, num_nodes=NODES, steps_per_day=24)
SHORT = replace(SHAPE, window=3, horizon=7)
SMALL = {"layers": 2, "hidden": 8, "embedding": 3, "heads": 2, "forecast": 6, "end": 7}


def make(shape: SeriesShape = SHAPE, **options: Any) -> D2STGNN:
    """One in evaluation whose normalisations are not those they start with."""
    torch.manual_seed(0)
    model: D2STGNN = backbones.build({"name": "d2stgnn", **SMALL, **options}, shape=shape)
    with torch.no_grad():
        model.dynamic.norm.running_mean.normal_(0, 0.1)
        model.dynamic.norm.running_var.uniform_(0.5, 1.5)
        for layer in model.layers:
            layer.undiffused.norm.bias.normal_()
    return model.eval()


def derived(nodes: int, layers: int = 5, f: int = 32, e: int = 10, said: int = 256, end: int = 512) -> int:
    gate = (4 * e * 64 + 64) + (64 + 1)
    local = (3 * f) ** 2 + (1 + 3 * 2) * f * f + f  # three steps without bias, two hops of three graphs
    inherent = 6 * f * f + 6 * f + 4 * (f * f + f)  # a recurrent unit and an attention
    remainder = f * f + f + 2 * f
    layer = gate + local + inherent + 2 * remainder + 2 * (f * said + said)
    last = -remainder  # nothing reads what the last layer leaves
    dynamic = (12 * 2 * f + 2 * f) + 2 * 2 * f + (2 * f * f + f) + 2 * (f + 3 * e) * f
    tables = 2 * f + (288 + 7) * e + 2 * nodes * e
    return layers * layer + last + dynamic + tables + (said * end + end) + (end * 3 + 3)


@pytest.mark.parametrize("nodes", [207, 325])
def test_the_size_is_the_derived_one_which_is_published_as_0_39_million(nodes: int) -> None:
    with torch.device("meta"):
        found = count_parameters(backbones.build("d2stgnn", shape=replace(PUBLISHED, num_nodes=nodes)))
    assert found == derived(nodes) == 390_170 + (nodes - 207) * 20
    if nodes == 207:
        unread = 32 * 32 + 32 + 2 * 32
        assert f"{found / 1e6:.2f}" == f"{(found + unread) / 1e6:.2f}" == "0.39"


def test_with_the_given_walks_as_graphs_of_their_own_it_would_be_larger_than_published() -> None:
    """That the published size has three graphs and not five: two more are 4,096 numbers a layer."""
    assert f"{(derived(207) + 5 * 2 * 2 * 32 * 32) / 1e6:.2f}" == "0.41"


def graphs_of(model: D2STGNN, window: Window, graph: Graph) -> list[Tensor]:
    """The three graphs (N, N) of one window."""
    source, target = model.source(), model.target()
    learned = (source @ target.T).clamp(min=0).exp()
    matrices = [learned / learned.sum(1, keepdim=True)]
    norm, layer, dense = model.dynamic.norm, model.dynamic, graph.dense()
    hidden = (window.values[0, :, :, 0].T @ layer.inward.weight.T + layer.inward.bias).clamp(min=0)
    hidden = (hidden - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    features = hidden @ layer.outward.weight.T + layer.outward.bias
    last = model.shape.window - 1
    slot, day = int(window.time_of_day[0, last]), int(window.day_of_week[0, last])
    when = torch.cat([model.calendar.time_of_day[slot], model.calendar.day_of_week[day]]).expand(NODES, -1)
    for weights, table in ((dense, source), (dense.T, target)):
        known = torch.cat([features, when, table], dim=1)
        shares = ((known @ layer.query.weight.T) @ (known @ layer.key.weight.T).T / model.hidden**0.5).exp()
        shares = (weights / (weights.sum(1, keepdim=True) + 1e-6) + 1e-7) * shares / shares.sum(1, keepdim=True)
        matrices.append(shares / shares.sum(1, keepdim=True))
    return matrices


def hops(matrices: list[Tensor]) -> list[Tensor]:
    own = 1 - torch.eye(NODES)
    return [power * own for matrix in matrices for power in (matrix, matrix @ matrix)]


def local(layer: Any, spans: Tensor, graphs: list[Tensor]) -> Tensor:
    """The convolution of three steps (N, 3, F) -> (N, F)."""
    steps = (spans.flatten(1) @ layer.steps.weight.T).clamp(min=0).view(spans.shape)
    parts = [steps.mean(1), *(matrix @ steps.sum(1) for matrix in graphs)]
    return torch.cat(parts, dim=1) @ layer.mix.weight.T + layer.mix.bias


def rest_of(layer: Any, x: Tensor, found: Tensor) -> Tensor:
    rest = x - (found @ layer.explained.weight.T + layer.explained.bias).clamp(min=0)
    return torch.nn.functional.layer_norm(rest, rest.shape[-1:], layer.norm.weight, layer.norm.bias)


def plain(model: D2STGNN, window: Window, graph: Graph, prompt: Tensor) -> Tensor:
    """Forecast (H, N) of one window from the formulas, step after step; the inherent block is the model's own."""
    shape, ahead = model.shape, -(-model.shape.horizon // 3)
    graphs, missing = hops(graphs_of(model, window, graph)), max(0, 5 - shape.window)
    values = pad(window.values[0], (0, 0, 0, 0, missing, 0))
    x = values @ model.readings.weight.T + model.readings.bias + prompt  # (S, N, F)
    slots, days = (part[0, : shape.window] for part in (window.time_of_day, window.day_of_week))
    when = torch.cat([model.calendar.time_of_day[slots], model.calendar.day_of_week[days]], dim=1)
    when = pad(when, (0, 0, missing, 0))
    said: Tensor | float = 0.0
    for place, layer in enumerate(model.layers):
        gated = []
        for step, features in zip(x, when[-len(x) :], strict=True):
            known = torch.cat([features.expand(NODES, -1), model.source(), model.target()], dim=1)
            hidden = (known @ layer.gate.inward.weight.T + layer.gate.inward.bias).clamp(min=0)
            gated.append(step * torch.sigmoid(hidden @ layer.gate.outward.weight.T + layer.gate.outward.bias))
        found = [local(layer.local, torch.stack(gated[t - 2 : t + 1], 1), graphs) for t in range(2, len(gated))]
        series = [*gated, found[-1]]
        while len(series) < len(gated) + ahead:
            series.append(local(layer.local, torch.stack(series[-3:], 1), graphs))
        rest = torch.stack([rest_of(layer.undiffused, *both) for both in zip(x[2:], found, strict=True)])
        own, own_ahead = layer.inherent(rest.transpose(0, 1)[None], steps=ahead)
        said = said + torch.stack(series[len(gated) :]) @ layer.say_diffused.weight.T + layer.say_diffused.bias
        said = said + own_ahead[0].transpose(0, 1) @ layer.say_inherent.weight.T + layer.say_inherent.bias
        if place + 1 < len(model.layers):
            x = rest_of(layer.unexplained, rest, own[0].transpose(0, 1))
    hidden = torch.relu(torch.relu(said) @ model.end1.weight.T + model.end1.bias)
    out = hidden @ model.end2.weight.T + model.end2.bias  # (ahead, N, 3)
    return torch.cat([step.T for step in out])[: shape.horizon]


@torch.no_grad()
@pytest.mark.parametrize("shape", [SHAPE, SHORT], ids=["usual", "short"])
def test_the_forecast_is_that_of_the_formulas(shape: SeriesShape, random_window, random_graph) -> None:
    model, windows, graph = make(shape), random_window(shape), random_graph(NODES)
    prompt = torch.randn(NODES, model.width)
    found = model.prompted(prompt, windows, graph)
    for place in range(len(windows.values)):
        one = Window(*(part[place : place + 1] for part in windows))
        torch.testing.assert_close(found[place], plain(model, one, graph, prompt), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_every_layer_reads_fewer_steps_and_a_short_window_begins_with_zeros(random_window, random_graph) -> None:
    for steps, span in ((3, 11), (11, 11), (12, 12), (20, 20)):
        shape = replace(SHAPE, window=steps)
        model, window = make(shape, layers=5), random_window(shape)
        embedding = model.embed(window, random_graph(NODES))
        assert embedding.shape[1] == span
        assert torch.equal(embedding[:, : span - steps], model.readings.bias.expand_as(embedding[:, : span - steps]))
        assert model(window, random_graph(NODES)).isfinite().all()


def test_every_step_and_sensor_is_seen_by_every_sensor(random_window, random_graph) -> None:
    window, model = random_window(SHAPE), make()
    values = window.values.requires_grad_()
    forecast = model(window, random_graph(NODES))
    for node in range(NODES):
        (gradient,) = torch.autograd.grad(forecast[..., node].sum(), [values], retain_graph=True)
        assert gradient.all(-1).any(0).all()


@torch.no_grad()
def test_the_calendar_of_the_window_matters_and_that_of_the_forecast_does_not(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    forecast = model(window, graph)
    for name, size in (("time_of_day", 24), ("day_of_week", 7)):
        for steps, same in ((slice(0, 6), False), (slice(6, 10), True)):
            moved = getattr(window, name).clone()
            moved[:, steps] = (moved[:, steps] + 1) % size
            assert torch.equal(model(window._replace(**{name: moved}), graph), forecast) == same


@torch.no_grad()
def test_a_prompt_leaves_the_graphs_of_the_window(random_window, random_graph, monkeypatch) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    made = []
    forward = model.dynamic.forward
    monkeypatch.setattr(model.dynamic, "forward", lambda *args: made.append(forward(*args)) or made[-1])
    model(window, graph)
    model.prompted(torch.randn(NODES, model.width), window, graph)
    assert all(torch.equal(one, two) for one, two in zip(*made, strict=True))


def test_the_horizon_is_made_in_gaps(random_window, random_graph) -> None:
    for horizon, gap, ahead in ((12, 3, 4), (7, 3, 3), (2, 3, 1), (4, 1, 4)):
        shape = replace(SHAPE, horizon=horizon)
        model = make(shape, gap=gap)
        assert model.deep == (ahead, 6)
        assert model(random_window(shape), random_graph(NODES)).shape == (3, horizon, NODES)


def test_windows_of_a_batch_matter_to_each_other_in_training_alone(assert_batch_matters) -> None:
    assert_batch_matters(make(dropout=0.0), SHAPE, change=1e-5)


def test_one_sensor_alone_can_be_trained(assert_trains_alone) -> None:
    shape = replace(SHAPE, num_nodes=1)
    assert_trains_alone(make(shape), shape)


def test_some_sensors_alone_are_a_network_of_their_own(assert_own_network) -> None:
    assert_own_network(make(), SHAPE)


def test_a_short_training_lowers_the_loss_and_goes_on_with_new_sensors(learned_twice) -> None:
    _, later = learned_twice({"name": "d2stgnn", **SMALL}, below=0.95)
    assert later.under("weights")["source.rows"].shape == (6, 3)


SIZES = ["layers", "hidden", "embedding", "kernel", "order", "gap", "heads", "forecast", "end"]


@pytest.mark.parametrize("option", SIZES)
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=rf"backbone 'd2stgnn': {option} is 0, expected at least 1"):
        make(**{option: 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads is 3, expected a divisor of hidden, which is 8"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a share from 0 to below 1"),
        ({"dropout": -0.1}, "dropout is -0.1, expected a share from 0 to below 1"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'd2stgnn': {message}"):
        make(**options)
