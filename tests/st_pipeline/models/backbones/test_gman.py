"""GMAN: its derived size, its parts put together by hand, and what its forecast depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.layers.row_norm import RowNorm
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.gman import GMAN
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, SeriesShape

NODES = 5
SHAPE = SeriesShape(window=4, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
SMALL = {"blocks": 2, "heads": 2, "hidden": 8, "places": 3, "walk": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> GMAN:
    """One in evaluation whose normalisations are not those they start with."""
    torch.manual_seed(0)
    model: GMAN = backbones.build({"name": "gman", **SMALL, **options}, shape=shape)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, RowNorm):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return model.eval()


def chain(length: int = NODES) -> Graph:
    """Each gathers from the one before."""
    return Graph.from_edges(range(1, length), range(length - 1), [1.0] * (length - 1), num_nodes=length)


def derived(blocks: int, width: int = 64, slots: int = 288) -> int:
    """The published network, whose places are 64 numbers a sensor that are no parameters.

    A normalisation, two numbers a feature, belongs to every linear layer with an activation.
    """

    def activated(inputs: int) -> int:
        return inputs * width + width + 2 * width

    linear = width * width + width
    two = activated(width) + linear
    attention = 3 * activated(2 * width) + two  # queries, keys and values of [h ; e], and two layers behind
    fusion = width * width + linear + two
    embeddings = two + activated(slots + 7) + linear  # of the place and of the calendar
    transform = 3 * activated(width) + two
    ends = activated(1) + linear + activated(width) + width + 1
    return 2 * blocks * (2 * attention + fusion) + embeddings + transform + ends


@pytest.mark.parametrize("nodes", [207, 325])
@pytest.mark.parametrize(("blocks", "published"), [(5, 900_801), (3, 565_185)])
def test_the_size_is_the_derived_one_and_the_places(nodes: int, blocks: int, published: int) -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=nodes, steps_per_day=288)
    with torch.device("meta"):
        model = backbones.build({"name": "gman", "blocks": blocks}, shape=shape)
    assert derived(blocks) == published
    assert count_parameters(model) == published + nodes * 64


def normed(layers: torch.nn.Sequential, x: Tensor) -> Tensor:
    """Linear, running normalisation, ReLU, linear."""
    first, norm = layers[0].linear, layers[0].norm
    y = x @ first.weight.T + first.bias
    y = (y - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    return y.clamp(min=0) @ layers[1].weight.T + layers[1].bias


@torch.no_grad()
def test_the_forecast_is_its_parts_put_together(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    dense = (graph.dense() + graph.dense().T) / 2
    walk = dense / (dense.sum(1, keepdim=True) + 1e-6)
    rows = model.places()
    place = normed(model.of_place, (rows + walk @ rows + walk @ walk @ rows) / 3)
    batch, steps = window.time_of_day.shape
    where = torch.empty(batch, steps, NODES, 8)
    for b in range(batch):
        for t in range(steps):
            calendar = torch.zeros(24 + 7)
            calendar[window.time_of_day[b, t]] = 1
            calendar[24 + window.day_of_week[b, t]] = 1
            where[b, t] = normed(model.of_time, calendar) + place
    prompt = torch.randn(NODES, 8)
    hidden = normed(model.inward, window.values) + prompt
    for block in model.encoder:
        hidden = block(hidden, where[:, :4])
    hidden = model.transform(hidden, where[:, :4], where[:, 4:])
    for block in model.decoder:
        hidden = block(hidden, where[:, 4:])
    expected = normed(model.outward, hidden)[..., 0]
    torch.testing.assert_close(model.prompted(prompt, window, graph), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_place_is_made_of_what_a_walk_reaches() -> None:
    for walk in (0, 1, 3):
        model = make(walk=walk)
        before = model.reached(chain())
        model.places.appended[0] += 1
        differs = (model.reached(chain()) - before).abs().amax(-1) > 1e-6
        assert differs.tolist() == [node <= walk for node in range(NODES)]


@torch.no_grad()
def test_places_of_neighbours_are_more_alike_than_those_of_sensors_far_away() -> None:
    count = 60
    places = make(SeriesShape(4, 3, 2, count, 24), places=64, walk=4).reached(chain(count))
    alike = torch.nn.functional.cosine_similarity(places[:, None], places[None], dim=-1)
    distance = (torch.arange(count)[:, None] - torch.arange(count)).abs()
    near, far = alike[distance == 1], alike[distance > 2 * 4]  # no walk of 4 steps leads to where the other's leads
    assert near.mean() > 0.5
    assert far.mean().abs() < 0.1


@torch.no_grad()
def test_a_sensor_without_edges_has_its_own_row() -> None:
    model, edgeless = make(), Graph.from_edges([], [], [], num_nodes=NODES)
    torch.testing.assert_close(model.reached(edgeless), model.places() / 3)


@torch.no_grad()
def test_the_calendar_of_the_forecast_matters_as_that_of_the_window_does(random_window, random_graph) -> None:
    model, window, graph = make(), random_window(SHAPE), random_graph(NODES)
    forecast = model(window, graph)
    for name, size in (("time_of_day", 24), ("day_of_week", 7)):
        for step in (0, 3, 4, 6):
            moved = getattr(window, name).clone()
            moved[:, step] = (moved[:, step] + 1) % size
            differs = (model(window._replace(**{name: moved}), graph) - forecast).abs().amax((0, 2)) > 1e-6
            assert differs.tolist() == [step <= 4 + ahead for ahead in range(3)]  # the decoder looks back alone


def test_every_step_and_sensor_is_seen_by_every_sensor(random_window, random_graph) -> None:
    window, model = random_window(SHAPE), make()
    values = window.values.requires_grad_()
    forecast = model(window, random_graph(NODES))
    for node in range(NODES):
        (gradient,) = torch.autograd.grad(forecast[..., node].sum(), [values], retain_graph=True)
        assert gradient.any(-1).any(0).all()


def test_windows_of_a_batch_matter_to_each_other_in_training_alone(assert_batch_matters) -> None:
    assert_batch_matters(make(), SHAPE)


def test_one_sensor_alone_can_be_trained(assert_trains_alone) -> None:
    shape = SeriesShape(4, 3, 2, 1, 24)
    assert_trains_alone(make(shape), shape)


def test_some_sensors_alone_are_a_network_of_their_own(assert_own_network) -> None:
    assert_own_network(make(), SHAPE)


def test_a_short_training_lowers_the_loss_and_goes_on_with_new_sensors(learned_twice) -> None:
    _, later = learned_twice({"name": "gman", **SMALL}, below=0.95)
    assert later.under("weights")["places.rows"].shape == (6, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads is 3, expected a divisor of hidden, which is 8"),
        ({"blocks": 0}, "blocks is 0, expected at least 1"),
        ({"heads": 0}, "heads is 0, expected at least 1"),
        ({"places": 0}, "places is 0, expected at least 1"),
        ({"walk": -1}, "walk is -1, expected at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'gman': {message}"):
        make(**options)
