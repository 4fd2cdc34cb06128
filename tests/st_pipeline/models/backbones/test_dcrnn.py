"""DCRNN: its size, its equations written out, how far it sees, and which labels it reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.dcrnn import DCRNN
from st_pipeline.models.base import count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import Graph, SeriesShape, Target, Window

NODES = 6
SHAPE = SeriesShape(window=5, horizon=4, channels=2, num_nodes=NODES, steps_per_day=24)
METR_LA = SeriesShape(window=12, horizon=12, channels=1, num_nodes=207, steps_per_day=288)
ALWAYS = 10**9  # with this tau a label is read at every step


def make(shape: SeriesShape = SHAPE, **options: Any) -> DCRNN:
    torch.manual_seed(0)
    return backbones.build({"name": "dcrnn", "hidden": 8, **options}, shape=shape)


@pytest.fixture
def window(random_window) -> Window:
    return random_window(SHAPE)


@pytest.fixture
def graph(random_graph) -> Graph:
    return random_graph(NODES)


@pytest.fixture
def target() -> Target:
    """A label in five is missing, which is NaN here."""
    random = torch.Generator().manual_seed(5)
    observed = torch.rand(3, SHAPE.horizon, NODES, generator=random) < 0.8
    return Target(torch.randn(3, SHAPE.horizon, NODES, generator=random).where(observed, torch.nan), observed)


def masked(forecast: Tensor, target: Target) -> Tensor:
    return (forecast - target.values)[target.observed].abs().mean()


def written_out(model: DCRNN, window: Window, graph: Graph, steps: int, target: Target | None = None) -> Tensor:
    """The published network with dense walks, one convolution of [x, h] for each gate, and labels if there are any."""
    adjacency = graph.dense()
    matrices = [torch.eye(graph.num_nodes)]
    for walk in (adjacency / (adjacency.sum(1, keepdim=True) + 1e-6), adjacency.T / (adjacency.sum(0)[:, None] + 1e-6)):
        terms = [torch.eye(graph.num_nodes), walk]
        for _ in range(steps - 1):
            terms.append(2 * walk @ terms[-1] - terms[-2])
        matrices += terms[1:]

    def convolve(unit: Any, x: Tensor, state: Tensor, part: slice) -> Tensor:
        own = torch.cat([unit.gates.weight, unit.candidate.weight], dim=-1)
        weight = torch.cat([unit.inputs.weight, own], dim=1)[..., part]
        features = torch.cat([x, state], dim=-1)
        return sum(m @ features @ w for m, w in zip(matrices, weight, strict=True)) + unit.inputs.bias[part]

    def step(unit: Any, x: Tensor, state: Tensor) -> Tensor:
        gates, rest = slice(2 * model.hidden), slice(2 * model.hidden, None)
        reset, update = torch.sigmoid(convolve(unit, x, state, gates)).chunk(2, dim=-1)
        return update * state + (1 - update) * torch.tanh(convolve(unit, x, reset * state, rest))

    states = [torch.zeros(len(window.values), graph.num_nodes, model.hidden) for _ in model.encoder]
    for place in range(window.values.shape[1]):
        when = window.time_of_day[:, place, None, None].expand(-1, graph.num_nodes, 1) / 24
        x = torch.cat([window.values[:, place], when], dim=-1)
        for layer, unit in enumerate(model.encoder):
            x = states[layer] = step(unit, x, states[layer])
    forecasts, read = [], torch.zeros(len(window.values), graph.num_nodes, 1)
    for place in range(model.shape.horizon):
        x = read
        for layer, unit in enumerate(model.decoder):
            x = states[layer] = step(unit, x, states[layer])
        read = linear(x, model.out.weight, model.out.bias)
        forecasts.append(read[..., 0])
        if target is not None:
            read = torch.where(target.observed[:, place], target.values[:, place], read[..., 0])[..., None]
    return torch.stack(forecasts, dim=1)


def test_it_has_the_published_number_of_parameters() -> None:
    """Inputs of the encoder are value and time of day, that of the decoder is the value."""

    def unit(inputs: int) -> int:
        return 5 * (inputs + 64) * 192 + 192

    model = backbones.build("dcrnn", shape=METR_LA)
    assert count_parameters(model) == 372_353 == unit(2) + unit(1) + 2 * unit(64) + 65
    assert count_parameters(model.encoder) == unit(2) + unit(64)


def test_its_size_does_not_depend_on_the_network() -> None:
    assert count_parameters(backbones.build("dcrnn", shape=replace(METR_LA, num_nodes=3))) == 372_353


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_forecast_is_what_the_equations_give_in_value_and_gradients(steps: int, window, graph) -> None:
    model = make(steps=steps)
    found, expected = model(window, graph), written_out(model, window, graph, steps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(found)
    mine, theirs = (torch.autograd.grad((out * weight).sum(), list(model.parameters())) for out in (found, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_head_is_what_the_decoder_has_read(window, graph) -> None:
    model = make()
    deep = model.core(model.embed(window, graph), window, graph)
    for step in range(SHAPE.horizon):
        alone = linear(deep[:, step], model.out.weight, model.out.bias)[..., 0]
        torch.testing.assert_close(model.head(deep)[:, step], alone)


def test_it_sees_as_far_as_its_diffusion_reaches(random_window) -> None:
    """One step in, one out: the encoder's state sees 1 edge far, its reset gate 2, what comes of it 3; both ways."""
    path = Graph.from_edges(range(8), range(1, 9), [1.0] * 8, num_nodes=9)
    shape = SeriesShape(window=1, horizon=1, channels=1, num_nodes=9, steps_per_day=24)
    model, window = make(shape, layers=1, steps=1), random_window(shape)
    changed = window._replace(values=window.values.clone())
    changed.values[:, :, 4] += 10
    reached = (model(changed, path) != model(window, path)).any(0)[0]
    assert reached.tolist() == [abs(node - 4) <= 3 for node in range(9)]


def test_gates_begin_open_and_again_after_a_reset() -> None:
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset()
    for unit in (*model.encoder, *model.decoder):
        assert unit.inputs.bias.tolist() == [1.0] * 16 + [0.0] * 8


def test_in_training_observed_labels_are_read_and_missing_ones_never(window, graph, target) -> None:
    model = make(tau=ALWAYS)
    expected = masked(written_out(model, window, graph, 2, target), target)
    loss = model.training_loss(window, target, graph, masked)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert abs(float(loss.detach()) - float(masked(model(window, graph), target).detach())) > 1e-4


def test_labels_are_read_in_training_alone_and_only_with_sampling(window, graph, target) -> None:
    model = make(tau=ALWAYS)
    own = masked(model(window, graph), target)
    assert torch.equal(model.eval().training_loss(window, target, graph, masked), own)
    assert int(model.sampling.batches) == 0
    without = make(tau=0)
    assert torch.equal(without.training_loss(window, target, graph, masked), own)
    assert (without.divisible, model.divisible) == (True, False)


def test_labels_become_rare_as_batches_are_counted(window, graph, target) -> None:
    model = make(tau=10)
    own = masked(model(window, graph), target)
    model.training_loss(window, target, graph, masked)
    assert int(model.sampling.batches) == 1
    model.sampling.batches.fill_(10**6)
    assert torch.equal(model.training_loss(window, target, graph, masked), own)
    model.reset()
    assert int(model.sampling.batches) == 0


def test_inside_a_prompt_pool_no_label_is_read_and_batches_may_be_cut(window, graph, target) -> None:
    pool = PromptPool(make(tau=ALWAYS), rank=2)
    loss = pool.training_loss(window, target, graph, masked)
    assert torch.equal(loss, masked(pool(window, graph), target))
    assert int(pool.inner.sampling.batches) == 0


def test_the_estimate_of_memory_counts_steps_layers_and_terms() -> None:
    base = make().working_width
    assert base >= 8 * 2 * 9
    for other in (make(hidden=16), make(layers=3), make(steps=4), make(replace(SHAPE, horizon=9))):
        assert other.working_width > base


def test_two_epochs_lower_the_loss(make_learner, make_history, make_stream, compute) -> None:
    history = list(make_history(make_stream()).values())
    learner = make_learner("online", prompt_pool=None, backbone={"name": "dcrnn", "hidden": 8})
    trained = learner.learn(history[0], None, compute=compute)["backbone"]
    assert trained.facts["train_loss"][1] < 0.95 * trained.facts["train_loss"][0]
    assert trained.facts["validation_error"][1] < trained.facts["validation_error"][0]
    assert int(trained.under("weights")["sampling.batches"]) > 0


@pytest.mark.parametrize(("option", "value"), [("hidden", 0), ("layers", 0), ("steps", 0), ("tau", -1)])
def test_an_option_that_is_too_small_is_refused(option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"backbone 'dcrnn': {option} is {value}, expected at least {value + 1}"):
        make(**{option: value})
