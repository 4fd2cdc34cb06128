"""StemGNN: its size, the graph that it learns from a window, and how its blocks are stacked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stemgnn import StemGNN
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape, Window

NODES = 5
SHAPE = SeriesShape(window=4, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
METR_LA = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
SMALL = {"units": 6, "multiple": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> StemGNN:
    torch.manual_seed(0)
    return backbones.build({"name": "stemgnn", **SMALL, **options}, shape=shape).eval()


@pytest.fixture(params=["node", "time"])
def along(request: pytest.FixtureRequest) -> str:
    return request.param


def last_states(gru: nn.GRU, inputs: Tensor) -> list[Tensor]:
    """The state after each element of (L, inputs), gate by gate."""
    weights, h, states = gru.state_dict(), torch.zeros(gru.hidden_size), []
    for x in inputs:
        ours = linear(x, weights["weight_ih_l0"], weights["bias_ih_l0"]).chunk(3)
        theirs = linear(h, weights["weight_hh_l0"], weights["bias_hh_l0"]).chunk(3)
        reset, update = (torch.sigmoid(a + b) for a, b in zip(ours[:2], theirs[:2], strict=True))
        h = (1 - update) * torch.tanh(ours[2] + reset * theirs[2]) + update * h
        states.append(h)
    return states


def attention(model: StemGNN, values: Tensor, along: str) -> Tensor:
    """A (N, N) of one window (T, N, C)."""
    flat = values.permute(1, 2, 0).flatten(1)  # (N, C * T)
    states = (
        last_states(model.gru, flat)
        if along == "node"
        else [last_states(model.gru, values[:, node])[-1] for node in range(values.shape[1])]
    )
    key, query = model.scores.weight
    rows = [[float(leaky_relu(one @ key + other @ query, 0.2)) for other in states] for one in states]
    return torch.tensor(rows).softmax(1)


def plain(model: StemGNN, window: Window, along: str) -> Tensor:
    """Forecast (B, H, N), window by window, from polynomials of dense matrices; blocks have a test of their own."""
    forecasts, one = [], torch.eye(window.values.shape[2])
    for values in window.values:
        matrix = attention(model, values, along)
        laplacian = one - (matrix + matrix.T) / 2
        zero = one if model.identity else torch.zeros_like(one)
        polynomials = [zero, laplacian, 2 * laplacian @ laplacian - zero]
        polynomials.append(2 * laplacian @ polynomials[2] - laplacian)
        x, total = values.permute(1, 2, 0).flatten(1), torch.zeros(())
        for block in model.blocks:
            forecast, x = block([polynomial @ x for polynomial in polynomials], x)
            total = total + forecast
        first, last = model.out[0], model.out[2]
        hidden = leaky_relu(linear(total, first.weight, first.bias), 0.01)
        forecasts.append(linear(hidden, last.weight, last.bias).T)
    return torch.stack(forecasts)


def test_the_size_is_the_published_one_without_the_parameters_that_nothing_uses() -> None:
    with torch.device("meta"):
        size = count_parameters(backbones.build("stemgnn", shape=METR_LA))
    steps, wide, terms = 12, 5 * 12, 4
    gates = 2 * (2 * (terms * steps + 1) * terms * wide + 2 * 2 * (terms * wide + 1) * terms * wide)
    block = gates + terms * wide**2 + (wide + 1) * wide + (wide + 1) * steps
    backcast, short_cut = (wide + 1) * steps, (steps + 1) * steps
    recurrence, attention, head = 3 * 207 * (steps + 207 + 2), 2 * 207, 2 * (steps + 1) * steps
    assert size == recurrence + attention + 2 * block + backcast + short_cut + head == 1_195_959
    assert round((size + short_cut) / 1e6, 2) == 1.20  # published; its last block has a short cut that it does not use


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"identity": True}, {"blocks": 3}, {"blocks": 1}], ids=str)
def test_the_forecast_is_that_of_the_formulas(along: str, options: dict[str, Any], random_window, random_graph) -> None:
    model, window = make(along=along, **options), random_window(SHAPE)
    found = model(window, random_graph(NODES))
    torch.testing.assert_close(found, plain(model, window, along), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_learned_graph_is_symmetric_and_of_one_unit_a_sensor(along: str, random_window, random_graph) -> None:
    model, window = make(along=along), random_window(SHAPE)
    found = model.learned_graph(model.embed(window, random_graph(NODES)))
    expected = torch.stack([attention(model, values, along) for values in window.values])
    torch.testing.assert_close(expected.sum(2), torch.ones(3, NODES))
    torch.testing.assert_close(found, (expected + expected.mT) / 2)
    assert not torch.allclose(found[0], found[1])  # each window has its own


def test_only_the_graph_is_dropped_and_only_in_training(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    hidden = model.embed(window, random_graph(NODES))
    whole = model.learned_graph(hidden)
    torch.manual_seed(0)
    draws = torch.stack([model.train().learned_graph(hidden) for _ in range(400)])
    assert (draws == 0).any()
    torch.testing.assert_close(draws.mean(0), whole, rtol=0, atol=0.06)
    assert make(dropout=0.0).divisible
    assert not model.divisible


@torch.no_grad()
def test_the_order_of_the_sensors_matters_along_the_sensors_alone(along: str, random_window, random_graph) -> None:
    model, window, graph = make(along=along), random_window(SHAPE), random_graph(NODES)
    order = torch.tensor([2, 0, 1, 4, 3])
    shuffled = model(window._replace(values=window.values[:, :, order]), graph)
    same = torch.allclose(shuffled, model(window, graph)[..., order], rtol=1e-4, atol=1e-5)
    assert same == model.equivariant == (along == "time")


@torch.no_grad()
def test_a_sensor_is_represented_by_those_up_to_it_or_by_itself(along: str, random_window, random_graph) -> None:
    model, window = make(along=along), random_window(SHAPE)
    hidden = model.embed(window, random_graph(NODES))
    changed = hidden.clone()
    changed[:, 2, 0] += 1
    differs = (model.represent(hidden) != model.represent(changed)).any(-1).all(0)
    assert differs.tolist() == (
        [False, False, True, True, True] if along == "node" else [False, False, True, False, False]
    )


@torch.no_grad()
def test_the_given_graph_is_not_used_and_every_channel_is(along: str, random_window, random_graph) -> None:
    model, window = make(along=along), random_window(SHAPE)
    forecast = model(window, random_graph(NODES))
    assert torch.equal(model(window, random_graph(NODES, seed=1)), forecast)
    for channel in range(SHAPE.channels):
        other = window._replace(values=window.values.clone())
        other.values[..., channel] += 1
        assert not torch.allclose(model(other, random_graph(NODES)), forecast)


def test_the_memory_counted_grows_with_what_is_kept() -> None:
    plainest = make().working_width
    assert make(along="time").working_width == plainest + 3 * 6  # the states of all four steps
    assert make(replace(SHAPE, num_nodes=105)).working_width == plainest + 100  # a row of the learned graph
    assert make(blocks=4).working_width > make(blocks=3).working_width > plainest


def test_a_short_training_lowers_the_loss_and_goes_on_with_new_sensors(learned_twice) -> None:
    first, later = learned_twice({"name": "stemgnn", **SMALL})
    assert later.facts["parameters"] == first.facts["parameters"]  # none belongs to a sensor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units is 0, expected at least 1"),
        ({"blocks": 0}, "blocks is 0, expected at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0, expected at least 0 and below 1"),
        ({"along": "window"}, "option 'along': found 'window'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'stemgnn': {message}"):
        make(**options)
