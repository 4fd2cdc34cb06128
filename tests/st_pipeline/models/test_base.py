"""The contract of every backbone in the registry, bare and prompted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import Graph, NodeSet, SeriesShape, Target, Window

NODES = 7
SHAPES = {
    "published": SeriesShape(window=12, horizon=12, channels=1, num_nodes=NODES, steps_per_day=288),
    "short": SeriesShape(window=8, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24),
    "long": SeriesShape(window=3, horizon=8, channels=3, num_nodes=NODES, steps_per_day=96),
    "lagged": SeriesShape(window=4, horizon=4, channels=6, num_nodes=NODES, steps_per_day=24, lags=2),
    "lagged_long": SeriesShape(window=4, horizon=6, channels=3, num_nodes=NODES, steps_per_day=24, lags=1),
}
SMALL: dict[str, dict[str, Any]] = {  # options that make a large backbone quick to test
    "d2stgnn": {"layers": 2, "hidden": 8, "forecast": 16, "end": 16},
    "gman": {"hidden": 16, "blocks": 2},
    "himnet": {"hidden": 16},
    "st_trans": {"hidden": 16, "feedforward": 32, "heads": 4},
}
Make = Callable[..., Forecaster]


def variants(name: str) -> Iterator[dict[str, Any]]:
    """A backbone with each of the options that many may have."""
    known, small = backbones.options(name).model_fields, {"name": name, **SMALL.get(name, {})}
    yield small
    for option, value in {"calendar": True, "context": 3}.items():
        if option in known:
            yield {**small, option: value}
    if {"calendar", "context"} <= known.keys():
        yield {**small, "calendar": True, "context": 3}


SPECS = [spec for name in backbones.names() for spec in variants(name)]


def label(spec: dict[str, Any]) -> str:
    return "-".join([spec["name"], *(key for key in spec if key in ("calendar", "context"))])


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request: pytest.FixtureRequest) -> SeriesShape:
    return request.param


@pytest.fixture(params=SPECS, ids=label)
def spec(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture(params=[False, True], ids=["bare", "prompted"])
def make(request: pytest.FixtureRequest, spec: dict[str, Any], shape: SeriesShape) -> Make:
    def build(*, num_nodes: int = NODES, seed: int = 0) -> Forecaster:
        torch.manual_seed(seed)
        forecaster: Forecaster = backbones.build(spec, shape=replace(shape, num_nodes=num_nodes))
        return PromptPool(forecaster, rank=2) if request.param else forecaster

    return build


@pytest.fixture
def model(make: Make) -> Forecaster:
    return make().eval()


@pytest.fixture
def window(random_window, shape: SeriesShape) -> Window:
    return random_window(shape)


@pytest.fixture
def graph(random_graph) -> Graph:
    return random_graph(NODES)


def names(count: int) -> NodeSet:
    return NodeSet.of(f"sensor {place}" for place in range(count))


def squared(forecast: Tensor, target: Target) -> Tensor:
    return ((forecast - target.values) ** 2).mean()


@pytest.mark.parametrize("num_nodes", [1, 5, 9])
def test_a_forecaster_takes_any_network(model, shape, random_window, random_graph, num_nodes: int) -> None:
    for count in (num_nodes, NODES, num_nodes):
        model.expand(names(count))
        window = random_window(replace(shape, num_nodes=count))
        assert model(window, random_graph(count)).shape == (3, shape.horizon, count)


def test_forward_is_embedding_core_and_head(model, shape, window, graph) -> None:
    hidden = model.embed(window, graph)
    deep = model.core(hidden, window, graph)
    for representation, axes in ((hidden, model.shallow), (deep, model.deep)):
        assert representation.shape == (3, *axes[:-1], NODES, axes[-1])
    assert model.shallow[-1] == model.width
    torch.testing.assert_close(model.head(deep), model(window, graph))


def test_a_prompt_is_what_is_added_to_the_embedding_in_value_and_gradients(model, shape, window, graph) -> None:
    prompt = torch.randn(NODES, model.width, requires_grad=True)
    weight = torch.randn(3, shape.horizon, NODES)
    found = model.prompted(prompt, window, graph)
    expected = model.head(model.core(model.embed(window, graph) + prompt, window, graph))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    of = {"prompt": prompt, **dict(model.named_parameters())}
    mine, theirs = (
        torch.autograd.grad((out * weight).sum(), list(of.values()), allow_unused=True, materialize_grads=True)
        for out in (found, expected)
    )
    assert mine[0].any()
    for name, one, other in zip(of, mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_a_prompt_of_nothing_changes_nothing(model, window, graph) -> None:
    found = model.prompted(torch.zeros(NODES, model.width), window, graph)
    torch.testing.assert_close(found, model(window, graph), rtol=1e-4, atol=1e-5)


def test_the_working_width_is_at_least_that_of_every_layer(model) -> None:
    wide = [layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert model.working_width >= max(wide, default=0)
    assert model.working_width > 0


def test_a_forecast_is_the_same_every_time_and_in_any_batch(model, window, graph) -> None:
    forecast = model(window, graph)
    assert torch.equal(forecast, model(window, graph))
    alone = model(Window(*(part[1:2] for part in window)), graph)
    torch.testing.assert_close(alone, forecast[1:2], rtol=1e-4, atol=1e-5)


def test_training_drops_nothing_from_the_output(model, window, graph) -> None:
    assert (model.train()(window, graph) != 0).all()


def test_the_training_loss_reaches_every_parameter_with_finite_gradients(model, shape, window, graph) -> None:
    target = Target(torch.randn(3, shape.horizon, NODES), torch.ones(3, shape.horizon, NODES, dtype=torch.bool))
    loss = model.training_loss(window, target, graph, squared)
    assert loss.shape == ()
    assert torch.equal(loss, squared(model(window, graph), target))
    loss.backward()
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_window_without_a_single_measurement_gives_a_finite_forecast(model, window, graph) -> None:
    empty = window._replace(values=torch.zeros_like(window.values), observed=torch.zeros_like(window.observed))
    assert model(empty, graph).isfinite().all()


def test_the_order_of_the_sensors_does_not_matter_unless_the_model_says_so(model, window, graph) -> None:
    if not model.equivariant:
        pytest.skip("the model says that the order matters")
    model.expand(names(NODES))
    forecast = model(window, graph)
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))
    shuffled = window._replace(values=window.values[:, :, order], observed=window.observed[:, :, order])
    model.expand(NodeSet.of(names(NODES).ids[place] for place in order))
    torch.testing.assert_close(model(shuffled, graph.subgraph(order)), forecast[..., order], rtol=1e-4, atol=1e-5)


def test_a_model_is_stored_and_restored_part_by_part(make: Make, window, graph) -> None:
    model, other = make(seed=1).eval(), make(seed=2, num_nodes=2).eval()
    for count in (NODES + 2, NODES):
        model.expand(names(count))
    assert model.parts().keys() == other.parts().keys()
    for name, part in model.parts().items():
        for own, table in node_tables(other.parts()[name]).items():
            saved = node_tables(part)[own]
            table.adopt(saved.ids, saved.cold_ids)
        other.parts()[name].load_state_dict(part.state_dict())
    assert torch.equal(model(window, graph), other(window, graph))
    assert count_parameters(other) == count_parameters(model)


def test_every_parameter_belongs_to_exactly_one_part(model) -> None:
    found = [id(parameter) for part in model.parts().values() for parameter in part.parameters()]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())


def test_reset_leaves_nothing_of_what_was_learned(make: Make, window, graph) -> None:
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset()
    for name, parameter in model.named_parameters():
        assert not (parameter == 7.0).any(), name
    assert model(window, graph).isfinite().all()


def test_the_same_seed_draws_the_same_parameters(make: Make) -> None:
    one, two, other = (dict(make(seed=seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_trainable_parameters_are_those_that_training_would_change() -> None:
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert (count_parameters(layer), count_parameters(layer, trainable=True)) == (8, 6)
