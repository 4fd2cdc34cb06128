"""AGCRN: its size, its equations written out, and what a forecast depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.agcrn import AGCRN
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet, SeriesShape, Window

NODES = 6
SHAPE = SeriesShape(window=5, horizon=4, channels=2, num_nodes=NODES, steps_per_day=24)
METR_LA = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)


def make(shape: SeriesShape = SHAPE, **options: Any) -> AGCRN:
    torch.manual_seed(0)
    model = backbones.build({"name": "agcrn", "hidden": 8, "embedding": 3, **options}, shape=shape)
    model.expand(NodeSet.of(f"sensor {place}" for place in range(shape.num_nodes)))
    return model


def written_out(model: AGCRN, window: Window, order: int) -> Tensor:
    """Every node's weights made one by one, every gate one dense convolution of [x, h], layers step by step."""
    embedding = model.nodes.table()
    adjacency = torch.softmax(torch.relu(embedding @ embedding.T), dim=1)
    supports = [torch.eye(len(embedding)), adjacency]
    for _ in range(order - 2):
        supports.append(2 * adjacency @ supports[-1] - supports[-2])
    when = window.time_of_day[:, : SHAPE.window, None, None].expand(-1, -1, NODES, 1) / 24
    series = list(torch.cat([window.values, when], dim=-1).unbind(1))
    for unit in model.units:
        width, hidden = series[0].shape[-1], model.hidden
        pools = [layer.linear.weight.unflatten(1, (order, -1)) for layer in (unit.inputs, unit.gates, unit.candidate)]
        both = torch.cat([pools[0], torch.cat([pools[1], pools[2]], dim=-1)], dim=2)  # (d, order, width + D, 3 D)
        weight = torch.stack([sum(e * pool for e, pool in zip(row, both, strict=True)) for row in embedding])
        bias = embedding @ unit.inputs.linear.bias

        def convolve(x: Tensor, state: Tensor, part: slice, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            features = torch.cat([x, state], dim=-1)
            assert features.shape[-1] == weight.shape[2]
            moved = torch.stack([support @ features for support in supports])
            return torch.einsum("kbni,nkio->bno", moved, weight[..., part]) + bias[:, part]

        state, states = torch.zeros(len(window.values), NODES, hidden), []
        for x in series:
            assert x.shape[-1] == width
            z, r = torch.sigmoid(convolve(x, state, slice(2 * hidden))).chunk(2, dim=-1)
            state = r * state + (1 - r) * torch.tanh(convolve(x, z * state, slice(2 * hidden, None)))
            states.append(state)
        series = states
    return linear(series[-1], model.out.weight, model.out.bias).transpose(1, 2)


def test_it_has_the_published_number_of_parameters() -> None:
    """BasicTS's METR-LA configuration reads value and time of day."""
    model = backbones.build("agcrn", shape=METR_LA)
    units = 10 * (2 * (2 + 64) * 192 + 192) + 10 * (2 * (64 + 64) * 192 + 192)
    assert count_parameters(model) == 751_650 == 207 * 10 + units + 65 * 12
    assert count_parameters(model.units) == units


def test_every_further_sensor_adds_one_row_and_every_input_its_weights() -> None:
    sizes = [count_parameters(backbones.build("agcrn", shape=replace(METR_LA, num_nodes=n))) for n in (307, 308)]
    assert sizes == [751_650 + 100 * 10, 751_650 + 101 * 10]
    plain = backbones.build({"name": "agcrn", "time_of_day": False}, shape=replace(METR_LA, num_nodes=307))
    assert count_parameters(plain) == sizes[0] - 10 * 2 * 192


@pytest.mark.parametrize("order", [2, 3])
def test_a_forecast_is_what_the_equations_give_in_value_and_gradients(order: int, random_window, random_graph) -> None:
    model, window = make(order=order), random_window(SHAPE)
    found, expected = model(window, random_graph(NODES)), written_out(model, window, order)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weight, of = torch.randn_like(found), [part for part in model.parameters() if part.numel()]
    mine, theirs = (torch.autograd.grad((out * weight).sum(), of) for out in (found, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_graph_is_the_learned_one(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    forecast = model(window, random_graph(NODES, seed=1))
    assert torch.equal(forecast, model(window, random_graph(NODES, seed=2)))
    changed = window._replace(values=window.values.clone())
    changed.values[:, :, 0] += 3
    assert (model(changed, random_graph(NODES)) != forecast).any(1).all()  # every sensor hears of it


def test_sensors_with_one_embedding_are_the_same_sensor(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    values = window.values.clone()
    values[:, :, 1] = values[:, :, 0]
    window = window._replace(values=values)
    assert not torch.allclose(*model(window, random_graph(NODES))[..., :2].unbind(-1), atol=1e-3)
    with torch.no_grad():
        for rows in (model.nodes.retained, model.nodes.appended):
            rows[1:2] = rows[0:1]
    torch.testing.assert_close(*model(window, random_graph(NODES))[..., :2].unbind(-1))


def test_the_time_of_day_is_an_input_if_asked_for(random_window, random_graph) -> None:
    window, graph = random_window(SHAPE), random_graph(NODES)
    later = window._replace(time_of_day=(window.time_of_day + 6) % 24, day_of_week=(window.day_of_week + 1) % 7)
    with_it, without = make(), make(time_of_day=False)
    assert not torch.allclose(with_it(later, graph), with_it(window, graph), atol=1e-4)
    assert torch.equal(without(later, graph), without(window, graph))
    assert (with_it.width, without.width) == (3, 2)


def test_a_part_of_the_network_is_a_network_of_its_own(random_window, random_graph) -> None:
    model, rows = make(), torch.tensor([4, 1, 2])
    window = random_window(replace(SHAPE, num_nodes=3))
    with restricted(model, rows):
        found = model(window, random_graph(3))
    alone = make(replace(SHAPE, num_nodes=3))
    state = {**model.state_dict(), "nodes.rows": model.nodes.table().detach()[rows]}
    alone.load_state_dict(state)
    torch.testing.assert_close(found, alone(window, random_graph(3)))


def test_the_estimate_of_memory_counts_steps_layers_and_terms() -> None:
    base = make().working_width
    assert base >= 8 * 2 * 5
    for other in (make(hidden=16), make(layers=3), make(order=4), make(replace(SHAPE, window=9))):
        assert other.working_width > base


def test_two_epochs_lower_the_loss(make_learner, make_history, make_stream, compute) -> None:
    history = list(make_history(make_stream()).values())
    learner = make_learner("online", prompt_pool=None, backbone={"name": "agcrn", "hidden": 8, "embedding": 3})
    facts = learner.learn(history[0], None, compute=compute)["backbone"].facts
    assert facts["train_loss"][1] < 0.95 * facts["train_loss"][0]
    assert facts["validation_error"][1] < facts["validation_error"][0]


@pytest.mark.parametrize("option", ["hidden", "layers", "embedding", "order"])
def test_an_option_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'agcrn': {option} is 0, expected at least 1"):
        make(**{option: 0})
