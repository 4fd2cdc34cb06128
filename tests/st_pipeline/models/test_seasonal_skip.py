"""A seasonal skip adds its mixture to the forecast of any model, which learns what is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import ReLearner
from st_pipeline.models.seasonal_skip import SeasonalSkip
from st_pipeline.types import SeriesShape, Target

NODES = 4
SHAPE = SeriesShape(window=4, horizon=6, channels=4, num_nodes=NODES, steps_per_day=24, lags=2)
INNER: dict[str, dict[str, Any]] = {
    "stgnn": {"name": "stgnn", "hidden": 8},
    "dcrnn": {"name": "dcrnn", "hidden": 4, "layers": 1, "tau": 5},
    "stgcn": {"name": "stgcn", "hidden": 4, "spatial": 4, "output": 4},
}


@pytest.fixture(params=INNER.values(), ids=INNER.keys())
def inner(request: pytest.FixtureRequest) -> Forecaster:
    torch.manual_seed(0)
    return ReLearner(PromptPool(backbones.build(request.param, shape=SHAPE), rank=2), hidden=8)


@pytest.fixture
def skip(inner: Forecaster) -> SeasonalSkip:
    model = SeasonalSkip(inner)
    for part in model.seasonal.parameters():
        torch.nn.init.normal_(part)
    return model


@pytest.fixture
def given(random_window, random_graph) -> tuple[Any, Any]:
    return random_window(SHAPE), random_graph(NODES)


def squared(forecast: Tensor, target: Target) -> Tensor:
    return ((forecast - target.values) ** 2 * target.observed).mean()


def a_target() -> Target:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(3, SHAPE.horizon, NODES, generator=generator)
    return Target(values, torch.rand(values.shape, generator=generator) < 0.8)


def test_the_forecast_is_that_of_the_inner_model_and_the_mixture(skip: SeasonalSkip, given) -> None:
    skip.eval()
    season = skip.seasonal(given[0]).transpose(1, 2)
    torch.testing.assert_close(skip(*given), skip.inner(*given) + season)
    prompt = torch.randn(NODES, skip.width)
    torch.testing.assert_close(skip.prompted(prompt, *given), skip.inner.prompted(prompt, *given) + season)


def test_embedding_core_and_head_make_the_same_forecast(skip: SeasonalSkip, given) -> None:
    skip.eval()
    deep = skip.core(skip.embed(*given), *given)
    assert deep.shape == (3, NODES, *skip.deep)
    torch.testing.assert_close(skip.head(deep), skip(*given))


def test_the_loss_is_that_of_the_whole_forecast_in_value_and_gradients(skip: SeasonalSkip, given) -> None:
    skip.eval()
    target, parameters = a_target(), dict(skip.named_parameters())
    losses = skip.training_loss(given[0], target, given[1], squared), squared(skip(*given), target)
    torch.testing.assert_close(*losses)
    found, expected = (
        torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        for loss in losses
    )
    for name, one, other in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert found[list(parameters).index("seasonal.mixture")].any()


def test_labels_that_a_decoder_reads_lack_the_mixture_and_teach_it_nothing(given, monkeypatch) -> None:
    model = SeasonalSkip(backbones.build({"name": "dcrnn", "hidden": 4, "layers": 1, "tau": 5}, shape=SHAPE)).train()
    monkeypatch.setattr(type(model.inner.sampling), "probability", lambda self: 1.0)
    read: list[Tensor] = []
    feedback = type(model.inner.sampling).feedback

    def spied(self: Any, target: Target) -> Any:
        inner = feedback(self, target)
        return lambda step, forecast: read.append(inner(step, forecast)) or read[-1]

    monkeypatch.setattr(type(model.inner.sampling), "feedback", spied)
    target = Target(torch.randn(3, SHAPE.horizon, NODES), torch.ones(3, SHAPE.horizon, NODES, dtype=torch.bool))
    model.training_loss(given[0], target, given[1], squared)
    left = target.values - model.seasonal(given[0]).transpose(1, 2)
    assert read
    for step, label in enumerate(read):
        torch.testing.assert_close(label, left[:, step])
        parts = list(model.seasonal.parameters())
        assert torch.autograd.grad(label.sum(), parts, retain_graph=True, allow_unused=True) == (None, None)


def test_it_is_a_part_of_its_own_beside_those_of_the_inner_model(skip: SeasonalSkip) -> None:
    assert skip.parts() == {**skip.inner.parts(), "seasonal_skip": skip.seasonal}
    assert (skip.separable, skip.divisible) == (skip.inner.separable, skip.inner.divisible)
    assert skip.working_width > skip.inner.working_width
