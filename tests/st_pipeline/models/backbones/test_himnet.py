"""HimNet: its published sizes, its arithmetic against a plain copy, its ablations, and what its decoder reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.himnet import HimNet
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, SeriesShape, Target, Window

NODES = 5
SHAPE = SeriesShape(window=4, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
SMALL = {"hidden": 6, "day": 3, "week": 2, "spatial": 4, "mixed": 3}
EDGELESS = Graph.from_edges([], [], [], num_nodes=NODES)
CARD = Path(__file__).parents[4] / "docs" / "models" / "himnet.md"
PUBLISHED: dict[str, tuple[int, dict[str, int], int]] = {  # sensors, options, parameters
    "METR-LA": (207, {"hidden": 64, "day": 8, "week": 8, "spatial": 16, "mixed": 16, "tau": 6000}, 1_250_937),
    "PEMS-BAY": (325, {"hidden": 64, "day": 8, "week": 8, "spatial": 16, "mixed": 16, "tau": 6000}, 1_252_825),
    "PEMS03": (358, {"hidden": 64, "day": 8, "week": 8, "spatial": 16, "mixed": 16, "tau": 4000}, 1_253_353),
    "PEMS04": (307, {"hidden": 64, "day": 12, "week": 4, "spatial": 16, "mixed": 16, "tau": 4000}, 1_253_661),
    "PEMS07": (883, {"hidden": 64, "day": 8, "week": 8, "spatial": 16, "mixed": 16, "tau": 6000}, 1_261_753),
    "PEMS08": (170, {"hidden": 96, "day": 10, "week": 2, "spatial": 14, "mixed": 10, "tau": 6000}, 2_069_573),
}
UNIT = 2 * (3 + 64) * 3 * 64 + 3 * 64  # weights and biases of one recurrent unit of METR-LA's
ABLATIONS: dict[str, tuple[dict[str, str], int]] = {  # of METR-LA's, with the parameters that it saves
    "w/o E_t": ({"temporal_pool": "ones"}, 288 * 8 + 7 * 8),
    "w/o E_s": ({"spatial_pool": "ones"}, 207 * 16),
    "w/o E_st": ({"mixed_pool": "ones"}, 64 * 16 + 16),
    "w/o TMP": ({"temporal_pool": "none"}, 15 * UNIT + 288 * 8 + 7 * 8),
    "w/o SMP": ({"spatial_pool": "none"}, 15 * UNIT),
    "w/o STMP": ({"mixed_pool": "none"}, 15 * UNIT),
}
VARIANTS = [
    {},
    *(options for options, _ in ABLATIONS.values()),
    {"order": 1},
    {"order": 4},
    {"layers": 2},
]


def make(shape: SeriesShape = SHAPE, **options: Any) -> HimNet:
    """One in double precision whose parameters matter, however small they are at first."""
    torch.manual_seed(0)
    model: HimNet = backbones.build({"name": "himnet", **SMALL, **options}, shape=shape).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("_embedding"):
                parameter.normal_(0, 0.4)
    return model.eval()


@pytest.fixture
def window(random_window) -> Window:
    found = random_window(SHAPE)
    return found._replace(values=found.values.double())


@pytest.fixture
def target() -> Target:
    random = torch.Generator().manual_seed(2)
    values = torch.randn(3, SHAPE.horizon, NODES, generator=random, dtype=torch.float64)
    return Target(values, torch.rand(values.shape, generator=random) < 0.7)


def squared(forecast: Tensor, target: Target) -> Tensor:
    return ((forecast - torch.where(target.observed, target.values, forecast.detach())) ** 2).mean()


class Plain:
    """The formulas alone, with every matrix made: of every window, every sensor and every power of the graphs."""

    def __init__(self, model: HimNet) -> None:
        self.model = model
        self.of = dict(model.named_parameters())

    def forecast(self, window: Window, labels: Target | None = None) -> Tensor:
        model, steps = self.model, self.model.shape.window
        when = torch.stack([window.time_of_day / model.shape.steps_per_day, window.day_of_week], dim=-1).double()
        batch, _, nodes, _ = window.values.shape
        x = torch.cat([window.values, when[:, :steps, None].expand(-1, -1, nodes, -1)], dim=-1)
        time = torch.ones(batch, 5).double()
        if model.temporal_embedding is not None:
            last = window.time_of_day[:, steps - 1], window.day_of_week[:, steps - 1]
            tables = (self.of[f"temporal_embedding.{name}"] for name in ("time_of_day", "day_of_week"))
            time = torch.cat([table[place] for table, place in zip(tables, last, strict=True)], dim=-1)
        place = torch.ones(nodes, 4).double()
        if model.spatial_embedding is not None:
            place = torch.cat([self.of["spatial_embedding.retained"], self.of["spatial_embedding.appended"]])
        place = place.expand(batch, -1, -1)
        state = self.encode("temporal_encoder", x, place, time[:, None].expand(-1, nodes, -1))
        state = state + self.encode("spatial_encoder", x, place, place)
        mixed = torch.ones(batch, nodes, 3).double()
        if model.mixed_embedding is not None:
            mixed = state @ self.of["mixed_embedding.weight"].T + self.of["mixed_embedding.bias"]
        states, read, found = [state] * len(model.decoder), torch.zeros(batch, nodes).double(), []
        for step in range(model.shape.horizon):
            y = torch.cat([read[..., None], when[:, steps + step, None].expand(-1, nodes, -1)], dim=-1)
            for layer in range(len(states)):
                y = states[layer] = self.unit(f"decoder.{layer}", y, states[layer], mixed, mixed)
            read = y @ self.of["out.weight"][0] + self.of["out.bias"]
            found.append(read)
            if labels is not None:
                read = torch.where(labels.observed[:, step], labels.values[:, step], read)
        return torch.stack(found, dim=1)

    def encode(self, name: str, x: Tensor, place: Tensor, query: Tensor) -> Tensor:
        for layer in range(len(getattr(self.model, name))):
            state, states = x.new_zeros(*place.shape[:2], self.model.hidden), []
            for step in range(x.shape[1]):
                state = self.unit(f"{name}.{layer}", x[:, step], state, place, query)
                states.append(state)
            x = torch.stack(states, dim=1)
        return state

    def unit(self, name: str, x: Tensor, state: Tensor, place: Tensor, query: Tensor) -> Tensor:
        """z resets and r updates: h' = r h + (1 - r) tanh([x, z h] * W_h + b_h)."""
        scores = torch.relu(place @ place.transpose(1, 2)).exp()
        graph = scores / scores.sum(2, keepdim=True)
        of_x = self.convolve(f"{name}.inputs", x, graph, query)
        of_state = self.convolve(f"{name}.gates", state, graph, query)
        hidden = self.model.hidden
        z = torch.sigmoid(of_x[..., :hidden] + of_state[..., :hidden])
        r = torch.sigmoid(of_x[..., hidden : 2 * hidden] + of_state[..., hidden:])
        candidate = torch.tanh(of_x[..., 2 * hidden :] + self.convolve(f"{name}.candidate", z * state, graph, query))
        return r * state + (1 - r) * candidate

    def convolve(self, name: str, x: Tensor, graph: Tensor, query: Tensor) -> Tensor:
        one = torch.eye(graph.shape[1]).double().expand_as(graph)
        powers = [one, graph, 2 * graph @ graph - one, 4 * graph @ graph @ graph - 3 * graph]
        terms = torch.cat([power @ x for power in powers[: self.model.order]], dim=-1)
        weight, bias = (self.of.get(f"{name}.linear.{part}") for part in ("weight", "bias"))
        if weight.dim() == 2:
            return terms @ weight.T + (0 if bias is None else bias)
        own = torch.einsum("bnd,dio->bnio", query, weight)
        return torch.einsum("bni,bnio->bno", terms, own) + (0 if bias is None else query @ bias)


@pytest.mark.parametrize("network", PUBLISHED)
def test_its_sizes_are_the_published_ones(network: str) -> None:
    sensors, options, parameters = PUBLISHED[network]
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=sensors, steps_per_day=288)
    with torch.device("meta"):
        found = count_parameters(backbones.build({"name": "himnet", **options}, shape=shape))
    assert found == parameters
    row = [network, sensors, *options.values(), f"{parameters:,}"]
    assert f"| {' | '.join(map(str, row))} |" in CARD.read_text()


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_saves_the_parameters_that_it_does_without(name: str) -> None:
    options, saved = ABLATIONS[name]
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
    with torch.device("meta"):
        found = count_parameters(backbones.build({"name": "himnet", **options}, shape=shape))
    assert found == PUBLISHED["METR-LA"][2] - saved


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_forecast_and_its_gradients_are_those_of_the_formulas(options: dict[str, Any], window) -> None:
    model = make(**options)
    found, expected = model(window, EDGELESS), Plain(model).forecast(window)
    torch.testing.assert_close(found, expected)
    parameters = dict(model.named_parameters())
    del parameters["spatial_embedding.retained" if "spatial_embedding.retained" in parameters else "out.bias"]
    mine, theirs = (torch.autograd.grad(out.square().sum(), list(parameters.values())) for out in (found, expected))
    for name, one, other in zip(parameters, mine, theirs, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")
        assert one.any(), name


def test_the_inputs_are_the_readings_the_share_of_the_day_and_the_day_of_the_week(window) -> None:
    hidden = make().embed(window, EDGELESS)
    assert torch.equal(hidden[..., :2], window.values)
    for node in range(NODES):
        torch.testing.assert_close(hidden[:, :, node, 2], window.time_of_day[:, :4].double() / 24)
        assert torch.equal(hidden[:, :, node, 3], window.day_of_week[:, :4].double())


def test_the_given_graph_is_not_used(window, random_graph) -> None:
    model = make()
    assert torch.equal(model(window, random_graph(NODES)), model(window, EDGELESS))


def test_sensors_alike_in_their_readings_differ_by_their_embedding_alone(window) -> None:
    values = window.values.clone()
    values[:, :, 1] = values[:, :, 3]
    alike = window._replace(values=values)
    for pool, same in (("embedding", False), ("none", False), ("ones", True)):
        forecast = make(spatial_pool=pool)(alike, EDGELESS)
        assert torch.allclose(forecast[..., 1], forecast[..., 3]) == same  # with `none` by their neighbours


def test_labels_are_read_where_they_are_observed_and_in_training_alone(window, target) -> None:
    model = make(tau=10**9)  # a label every time
    holes = target._replace(values=target.values.masked_fill(~target.observed, torch.nan))
    taught = squared(Plain(model).forecast(window, labels=target), target)
    alone = squared(Plain(model).forecast(window), target)
    assert not torch.allclose(taught, alone)
    for training, expected in ((True, taught), (False, alone)):
        loss = model.train(training).training_loss(window, holes, EDGELESS, squared)
        torch.testing.assert_close(loss, expected)


def test_in_the_end_and_without_scheduled_sampling_no_label_is_read(window, target) -> None:
    for model in (make(tau=0).train(), make(tau=3).train()):
        model.sampling.batches.fill_(1000)
        loss = model.training_loss(window, target, EDGELESS, squared)
        torch.testing.assert_close(loss, squared(model(window, EDGELESS), target))
        assert model.divisible != model.sampling.active


def test_batches_are_counted_in_training_until_a_reset(window, target) -> None:
    model = make()
    for training in (True, False, True):
        model.train(training).training_loss(window, target, EDGELESS, squared)
    assert model.sampling.batches == 2
    model.reset()
    assert model.sampling.batches == 0


def test_embeddings_start_as_large_as_published() -> None:
    model = backbones.build({"name": "himnet", "spatial": 200, "day": 200}, shape=replace(SHAPE, num_nodes=100))
    times, sensors = model.temporal_embedding.time_of_day, model.spatial_embedding.table()
    assert float(times.detach().std()) == pytest.approx(1, rel=0.05)
    assert float(sensors.detach().std()) == pytest.approx((2 / (100 + 200)) ** 0.5, rel=0.05)  # Xavier's


def kept(model: HimNet, window: Window) -> list[int]:
    """How many numbers each tensor has that is kept for the gradients, parameters left out."""
    found = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda part: found.setdefault(part.untyped_storage().data_ptr(), part), lambda part: part
    ):
        model(window, EDGELESS)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    return [part.untyped_storage().nbytes() // 4 for place, part in found.items() if place not in own]


def test_no_sensor_of_a_window_has_its_matrices_made(random_window) -> None:
    shape = replace(SHAPE, num_nodes=40)
    model = backbones.build({"name": "himnet", "hidden": 48, "mixed": 6}, shape=shape)
    assert max(kept(model, random_window(shape, batch=8))) < 8 * 40 * (2 * 48) * 48  # the smallest of the decoder's


@pytest.mark.parametrize("options", [{}, {"layers": 2}, {"order": 3}, {"hidden": 16}], ids=str)
def test_the_estimate_of_memory_covers_what_is_kept(options: dict[str, int], random_window) -> None:
    shape = SeriesShape(window=6, horizon=6, channels=1, num_nodes=60, steps_per_day=24)
    model = backbones.build({"name": "himnet", **options}, shape=shape)
    numbers = sum(kept(model, random_window(shape, batch=4)))
    assert numbers < 10 * 4 * 60 * model.working_width < 4 * numbers  # ten copies of what is said to be kept


def test_two_epochs_lower_the_loss(make_learner, make_stream, make_history, compute) -> None:
    first = next(iter(make_history(make_stream()).values()))
    learner = make_learner("online", prompt_pool=None, backbone={"name": "himnet", **SMALL, "tau": 20})
    parts = learner.learn(first, None, compute=compute)
    losses = parts["backbone"].facts["train_loss"]
    assert losses[1] < 0.95 * losses[0]


@pytest.mark.parametrize("option", ["hidden", "layers", "day", "week", "spatial", "mixed", "order"])
def test_a_size_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=rf"backbone 'himnet': {option} is 0, expected at least 1"):
        make(**{option: 0})


def test_a_negative_decay_is_refused() -> None:
    with pytest.raises(InputError, match=r"backbone 'himnet': tau is -1, expected at least 0"):
        make(tau=-1)
