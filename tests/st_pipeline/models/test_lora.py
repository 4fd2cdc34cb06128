"""Adapters act where the two readings say, are a part of their own, and begin as nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stgnn import STGNN
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.lora import LoRA
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import Graph, NodeSet, SeriesShape, Target, Window

NODES = 6
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=NODES, steps_per_day=288)
LAGGED = SeriesShape(window=4, horizon=6, channels=3, num_nodes=NODES, steps_per_day=24, lags=1)
PLACES = ["weights", "hidden"]
BACKBONES: dict[str, tuple[dict[str, Any], SeriesShape]] = {
    "published": ({"name": "stgnn"}, PUBLISHED),
    "calendar": ({"name": "stgnn", "hidden": 16, "calendar": True, "context": 2}, LAGGED),
}


def build(
    name: str, place: Any, *, rank: int = 2, prompted: bool = True, periods: int = 0, seed: int = 0
) -> Forecaster:
    """A model with adapters, prompted or not, whose earlier periods have learned something."""
    torch.manual_seed(seed)
    spec, shape = BACKBONES[name]
    lora = LoRA(backbones.build(spec, shape=shape), rank=rank, place=place)
    model: Forecaster = PromptPool(lora, rank=2) if prompted else lora
    for _ in range(periods):
        lora.adapters.append()
    with torch.no_grad():
        for parameter in lora.adapters.parameters():
            parameter.normal_(std=0.5)
    lora.adapters.scale *= 10 if place == "hidden" else 1  # so that what they do is seen
    return model.eval()


@pytest.fixture(params=product(BACKBONES, PLACES), ids="-".join)
def make(request: pytest.FixtureRequest) -> Callable[..., Forecaster]:
    name, place = request.param
    return lambda **options: build(name, place, **options)


@pytest.fixture
def graph(random_graph) -> Graph:
    return random_graph(NODES)


def adapters(model: Forecaster) -> nn.Module:
    return model.parts()["lora"]


# What the adapters do


@pytest.mark.parametrize("prompted", [False, True])
def test_a_just_appended_adapter_changes_no_forecast(make, random_window, graph, prompted: bool) -> None:
    model = make(prompted=prompted)
    window = random_window(model.shape)
    before = model(window, graph)
    for _ in range(3):
        adapters(model).append()
        assert torch.equal(model(window, graph), before)


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_takes_adapters_of_its_linear_layers(random_window, graph, name: str) -> None:
    inner = backbones.build(name, shape=PUBLISHED).eval()
    window, names = random_window(PUBLISHED), set(inner.state_dict())
    before = inner(window, graph)
    model = LoRA(inner, rank=3, place="weights").eval()
    model.adapters.append()
    assert torch.equal(model(window, graph), before)
    assert (model.width, model.working_width, model.separable) == (inner.width, inner.working_width, inner.separable)
    assert set(inner.state_dict()) == names
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.normal_()
    assert not torch.isclose(model(window, graph), before).all()


def test_weights_are_those_of_a_backbone_that_has_learned_the_increments_itself(random_window, graph) -> None:
    for name, (spec, shape) in BACKBONES.items():
        model, window = build(name, "weights", periods=3, prompted=False), random_window(shape)
        weights = model.inner.state_dict()
        for own in model.adapters.sizes:
            for period in model.adapters.periods:
                weights[own.replace("/", ".")] = weights[own.replace("/", ".")] + (period[own].down @ period[own].up).T
        merged = backbones.build(spec, shape=shape).eval()
        merged.load_state_dict(weights)
        torch.testing.assert_close(model(window, graph), merged(window, graph), rtol=1e-4, atol=1e-4)
        assert {own.replace("/", ".") for own in model.adapters.sizes} == {
            key for key, value in weights.items() if key.endswith(".weight") and value.dim() == 2
        }


def hidden_form(model: LoRA, x: Tensor, adjacency: Tensor) -> Tensor:
    """Forecast (B, H, N) of EAC's LoRA class from x (B, N, 12), layer by layer (continual-methods, section 4.5)."""
    weights = dict(model.inner.named_parameters())
    batch, nodes, _ = x.shape
    operator = adjacency / (adjacency.sum(1, keepdim=True) + 1e-6)

    def gcn(h: Tensor, name: str) -> Tensor:
        mixed = operator @ h @ weights[f"{name}.neighbour.weight"].T + weights[f"{name}.neighbour.bias"]
        return mixed + h @ weights[f"{name}.own.weight"].T

    def adapted(h: Tensor) -> Tensor:
        of = [period["hidden"] for period in model.adapters.periods]
        return h + model.adapters.scale * sum(h @ adapter.down @ adapter.up for adapter in of)

    h = adapted(torch.relu(gcn(x, "gcn1")))
    h = conv1d(h.reshape(batch * nodes, 1, -1), weights["tcn.weight"], weights["tcn.bias"], padding=1)
    z = gcn(adapted(h.reshape(batch, nodes, -1)), "gcn2")
    out = gelu(z + x) @ weights["fc.weight"].T + weights["fc.bias"]
    return out.transpose(1, 2)


@pytest.mark.parametrize("periods", [1, 3])
def test_hidden_adapters_act_before_and_behind_the_convolution(random_window, graph, periods: int) -> None:
    model = build("published", "hidden", periods=periods, prompted=False).requires_grad_()
    window, weight = random_window(PUBLISHED), torch.randn(3, 12, NODES)
    found = model(window, graph)
    expected = hidden_form(model, window.values[..., 0].transpose(1, 2), graph.dense())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    mine, theirs = (torch.autograd.grad((out * weight).sum(), list(model.parameters())) for out in (found, expected))
    for (name, _), one, other in zip(model.named_parameters(), mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
        assert one.any(), name


def test_hidden_adapters_are_scaled_as_published() -> None:
    model = LoRA(STGNN(PUBLISHED), rank=6, place="hidden")
    assert model.adapters.scale == 1 / (64 * 6)
    assert LoRA(STGNN(PUBLISHED), rank=6, place="weights").adapters.scale == 1


@pytest.mark.parametrize("rank", [1, 6])
@pytest.mark.parametrize(("place", "size"), [("hidden", 2 * 64), ("weights", 4 * (12 + 64) + 12 + 12)])
def test_an_adapter_has_as_many_parameters_as_its_factors(place: Any, size: int, rank: int) -> None:
    model = LoRA(STGNN(PUBLISHED), rank=rank, place=place)
    assert count_parameters(model) == 3308
    for periods in (1, 2):
        model.adapters.append()
        assert count_parameters(model) == 3308 + periods * rank * size
        assert count_parameters(model.adapters, trainable=True) == rank * size


# What every forecaster keeps to


def test_forward_is_embedding_core_and_head(make, random_window, graph) -> None:
    for prompted in (False, True):
        model = make(periods=2, prompted=prompted)
        window = random_window(model.shape)
        hidden = model.embed(window, graph)
        assert hidden.shape[-1] == model.width
        torch.testing.assert_close(model.head(model.core(hidden, window, graph)), model(window, graph))


def test_a_prompt_is_what_is_added_to_the_embedding(make, random_window, graph) -> None:
    model = make(periods=2, prompted=False)
    prompt, window = torch.randn(NODES, model.width), random_window(model.shape)
    expected = model.head(model.core(model.embed(window, graph) + prompt, window, graph))
    torch.testing.assert_close(model.prompted(prompt, window, graph), expected, rtol=1e-4, atol=1e-4)


def test_every_parameter_belongs_to_exactly_one_part(make) -> None:
    model = make(periods=2)
    assert list(model.parts()) == ["backbone", "lora", "prompt_pool"]
    found = [id(parameter) for part in model.parts().values() for parameter in part.parameters()]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    stored = [part.state_dict() for part in model.parts().values()]
    assert not any("down" in name or "up" in name for name in stored[0])


def test_a_model_is_stored_and_restored_part_by_part(make, random_window, graph) -> None:
    model, other = make(periods=3, seed=1), make(seed=2)
    window = random_window(model.shape)
    for one in (model, other):
        one.expand(NodeSet.of("abcdef"))
    for name, part in model.parts().items():
        other.parts()[name].load_state_dict(part.state_dict())
    assert torch.equal(model(window, graph), other(window, graph))
    assert count_parameters(other) == count_parameters(model)


def test_the_training_loss_reaches_every_parameter_with_finite_gradients(make, random_window, graph) -> None:
    model = make(periods=2)
    window, shape = random_window(model.shape), (3, model.shape.horizon, NODES)
    target = Target(torch.randn(shape), torch.ones(shape, dtype=torch.bool))
    model.training_loss(window, target, graph, lambda out, wanted: ((out - wanted.values) ** 2).mean()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    *older, newest = adapters(model).periods
    assert all(parameter.grad is None for period in older for parameter in period.parameters())
    assert all(parameter.grad.any() for parameter in newest.parameters())


def test_reset_leaves_nothing_of_what_was_learned(make, random_window, graph) -> None:
    model = make(periods=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset()
    assert not len(adapters(model))
    for name, parameter in model.named_parameters():
        assert not (parameter == 7.0).any(), name
    assert model(random_window(model.shape), graph).isfinite().all()


class Own(Forecaster):
    """A backbone without linear layers that adds to its loss, and tells of itself."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.shape = PUBLISHED
        self.inner = inner

    def forward(self, window: Window, graph: Graph) -> Tensor:
        return window.values[..., 0]

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Any) -> Tensor:
        return torch.tensor(5.0)

    def watched(self) -> dict[str, float]:
        return {"own": 1.0}


def test_what_a_backbone_adds_to_its_loss_and_tells_of_itself_is_passed_on(random_window, graph) -> None:
    model = LoRA(Own(nn.Linear(2, 2)), rank=1, place="weights")
    assert model.training_loss(random_window(PUBLISHED), None, graph, None) == 5
    assert model.watched() == {"own": 1.0}


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("weights", r"`lora: \{place: weights\}` adapts linear layers, and this backbone has none"),
        ("hidden", r"`lora: \{place: hidden\}` adapts the hidden features .* take backbone stgnn, or `place: weights`"),
    ],
)
def test_a_backbone_with_nothing_to_adapt_is_refused(place: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        LoRA(Own(), rank=2, place=place)
