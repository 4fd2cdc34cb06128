"""ST-Norm: its size, its arithmetic from torch's own layers, what it sees, and statistics that live with sensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, linear, pad

from st_pipeline.errors import InputError
from st_pipeline.layers.node_record import NodeRecord
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stnorm import STNorm
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape, Window

NODES = 4
SHAPE = SeriesShape(window=5, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SMALL = {"hidden": 6, "blocks": 2}  # receptive field 7


def make(shape: SeriesShape = SHAPE, **options: Any) -> STNorm:
    torch.manual_seed(0)
    return backbones.build({"name": "stnorm", **SMALL, **options}, shape=shape)


def test_the_size_is_the_published_one_without_the_layer_that_nothing_reads() -> None:
    """The published network also has a residual map behind its last convolution, whose result is not used."""
    unread = 32 * 32 + 32
    found = count_parameters(backbones.build("stnorm", shape=PUBLISHED))
    assert found == 222_700
    start, end = 2 * 32 + 32, (32 * 32 + 32) + (32 * 12 + 12)
    norms, gates = 2 * 207 * 32 + 2 * 32, 2 * (3 * 32 * 32 * 2 + 32)
    published = start + 8 * (norms + gates + 2 * unread) + end
    assert found + unread == published == 223_756  # "224K"


def torchs_own(model: STNorm, x: Tensor) -> Tensor:
    """What the core gives in training, from an embedding (B, S, N, D), node by node with torch's layers."""
    skips = []
    for place, layer in enumerate(model.layers):
        temporal, spatial = layer.norms
        columns = []
        for node in range(NODES):
            gain, shift = temporal.affine()[node].detach().chunk(2)
            own = nn.BatchNorm1d(x.shape[-1])
            own.load_state_dict({**own.state_dict(), "weight": 1 + gain, "bias": shift})
            columns.append(own(x[:, :, node].transpose(1, 2)).transpose(1, 2))
        across = nn.functional.instance_norm(x.permute(0, 1, 3, 2).flatten(0, 1)).unflatten(0, x.shape[:2])
        across = across.transpose(2, 3) * spatial.gain + spatial.shift
        seen = torch.cat([x, torch.stack(columns, 2), across], -1)
        conv = layer.conv.both.conv
        both = [conv1d(seen[:, :, node].transpose(1, 2), conv.weight[..., 0], conv.bias, dilation=conv.dilation[0])
                for node in range(NODES)]  # fmt: skip
        out = torch.stack([one[:, :6].tanh() * one[:, 6:].sigmoid() for one in both], 2).permute(0, 3, 2, 1)
        skips.append(model.skips[place](out)[:, -1])
        if place < len(model.residuals):
            x = model.residuals[place](out) + x[:, -out.shape[1] :]
    return sum(skips)


def test_the_forecast_is_that_of_torchs_own_layers(random_window, random_graph) -> None:
    model, window, graph = make().train(), random_window(SHAPE), random_graph(NODES)
    with torch.no_grad():
        for layer in model.layers:
            layer.norms[0].affine.appended.uniform_(-0.5, 0.5)
            nn.init.normal_(layer.norms[1].gain)
            nn.init.normal_(layer.norms[1].shift)
    hidden = model.embed(window, graph)
    slots = (window.time_of_day[:, :5, None, None] / 24).expand(-1, -1, NODES, -1)
    inputs = pad(torch.cat([window.values, slots], -1), (0, 0, 0, 0, 2, 0))  # 5 steps, 7 are needed
    torch.testing.assert_close(hidden, linear(inputs, model.start.weight, model.start.bias))
    expected = torchs_own(model, hidden)
    torch.testing.assert_close(model.core(hidden, window, graph), expected, rtol=1e-4, atol=1e-5)
    out = model.fc2(torch.relu(model.fc1(torch.relu(expected)))).transpose(1, 2)
    torch.testing.assert_close(model(window, graph), out, rtol=1e-4, atol=1e-5)


def test_the_forecast_is_made_of_the_last_steps_of_the_receptive_field(random_window, random_graph) -> None:
    shape = replace(SHAPE, window=9)
    model, window, graph = make(shape).eval(), random_window(shape), random_graph(NODES)
    values = window.values.clone().requires_grad_()
    model(window._replace(values=values), graph)[..., 1].sum().backward()
    seen = values.grad.abs().sum((0, 3))
    assert (seen[:, 1] > 0).tolist() == [False, False] + [True] * 7


@pytest.mark.parametrize("spatial", [True, False])
def test_sensors_reach_each_other_through_the_normalisation_alone(spatial: bool, random_window, random_graph) -> None:
    model, window = make(spatial=spatial).eval(), random_window(SHAPE)
    values = window.values.clone()
    values[:, :, 1] += 1
    one, other = (
        model.core(model.embed(each, graph), each, graph)
        for each, graph in (
            (window, random_graph(NODES)),
            (window._replace(values=values), random_graph(NODES, seed=1)),
        )
    )
    assert (one != other).any(2).all(0).tolist() == [spatial, True, spatial, spatial]


@pytest.mark.parametrize("temporal", [True, False])
def test_in_training_windows_influence_each_other_through_tnorm_alone(
    temporal: bool, random_window, random_graph
) -> None:
    model, window, graph = make(temporal=temporal).train(), random_window(SHAPE), random_graph(NODES)
    together = model(window, graph)
    alone = torch.cat([model(Window(*(part[at : at + 1] for part in window)), graph) for at in range(3)])
    assert torch.allclose(alone, together, rtol=1e-4, atol=1e-5) == (not temporal)
    assert model.separable == model.divisible == (not temporal)


def test_without_norms_a_convolution_sees_its_input_alone() -> None:
    sizes = {
        (temporal, spatial): make(temporal=temporal, spatial=spatial).layers[0].conv.both.conv.in_channels
        for temporal in (True, False)
        for spatial in (True, False)
    }
    assert sizes == {(True, True): 18, (True, False): 12, (False, True): 12, (False, False): 6}


@pytest.mark.parametrize(
    ("option", "value", "least"), [("hidden", 0, 1), ("kernel", 1, 2), ("blocks", 0, 1), ("layers", 0, 1)]
)
def test_a_size_that_cannot_be_is_refused(option: str, value: int, least: int) -> None:
    with pytest.raises(InputError, match=f"backbone 'stnorm': {option} is {value}, expected at least {least}"):
        make(**{option: value})


def test_training_lowers_the_loss_and_statistics_live_on_with_the_sensors(
    make_learner, make_stream, make_history, compute
) -> None:
    first, second, _ = make_history(make_stream()).values()
    learner = make_learner("online", prompt_pool=None, backbone={"name": "stnorm", **SMALL})
    epochs: list[Any] = []
    trained = learner.learn(first, None, compute=compute, progress=epochs.append)
    assert epochs[1].loss < epochs[0].loss
    model = learner.restore(trained).forecaster
    before = records(model)
    assert all(rows.any(1).all() for rows in before.values())
    model.expand(second.nodes)
    place = [first.nodes.ids.index(name) for name in second.nodes.retained]
    for name, rows in records(model).items():
        assert torch.equal(rows[: len(place)], before[name][place])
        assert rows[len(place) :].any(1).all()
    again: list[Any] = []
    learner.learn(second, trained, compute=compute, earlier=first, progress=again.append)
    assert again[0].loss < epochs[0].loss


def records(model: nn.Module) -> dict[str, Tensor]:
    found = {name: part for name, part in model.named_modules() if isinstance(part, NodeRecord)}
    assert found
    return {name: part().clone() for name, part in found.items()}
