"""Elastic weights: the penalty of Kirkpatrick et al. with TrafficStream's Fisher information."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.period_data import PeriodData
from st_pipeline.models.base import Forecaster
from st_pipeline.strategies.base import Arrival
from st_pipeline.strategies.parts.elastic_weights import ElasticWeights
from st_pipeline.training.learner import Learner
from st_pipeline.types import NodeSet

ROWS = {"prompts.nodes.retained", "prompts.nodes.appended"}


@pytest.fixture
def learner(make_learner) -> Learner:
    return make_learner(protocol="paper")


@pytest.fixture
def data(make_history, learner: Learner) -> PeriodData:
    return next(iter(make_history(learner.stream).values()))


@pytest.fixture
def arrival(make_arrival, learner: Learner, data: PeriodData) -> Arrival:
    return make_arrival(learner, data)


@pytest.fixture
def forecaster(learner: Learner, data: PeriodData) -> Forecaster:
    torch.manual_seed(4)
    forecaster = learner.build(len(data.nodes))
    forecaster.expand(data.nodes)
    return forecaster


def move(forecaster: Forecaster, seed: int, by: float = 0.1) -> dict[str, torch.Tensor]:
    """Change all parameters; returns by how much."""
    random = torch.Generator().manual_seed(seed)
    steps = {}
    with torch.no_grad():
        for name, part in forecaster.named_parameters():
            steps[name] = by * torch.randn(part.shape, generator=random)
            part.add_(steps[name])
    return steps


def test_the_fisher_information_is_the_sum_of_squared_batch_gradients(forecaster, arrival, learner) -> None:
    weights = ElasticWeights(1.0)
    weights.anchor(forecaster, arrival.gradients(forecaster))
    windows, graph = arrival.network.train.windows, arrival.network.graph
    expected = {name: torch.zeros_like(part) for name, part in forecaster.named_parameters()}
    for batch in arrival.network.train.starts.split(learner.settings.batch):
        window, target = windows.gather(batch)
        loss = ((forecaster(window, graph) - target.values) ** 2).mean()
        for total, gradient in zip(
            expected.values(), torch.autograd.grad(loss, list(forecaster.parameters())), strict=True
        ):
            total += gradient**2
    assert weights.fisher.keys() == weights.centre.keys() == expected.keys() - ROWS
    for name, value in weights.fisher.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4 * float(expected[name].max()))
    assert all(part.grad is None for part in forecaster.parameters())


def test_the_penalty_is_nothing_at_the_anchor_and_half_a_parabola_around_it(forecaster, arrival) -> None:
    weights = ElasticWeights(0.3)
    weights.anchor(forecaster, arrival.gradients(forecaster))
    at_rest = weights.penalty(forecaster)
    assert at_rest.item() == 0
    assert not any(part.any() for part in torch.autograd.grad(at_rest, list(_held(forecaster).values())))
    steps = move(forecaster, seed=2)
    penalty = weights.penalty(forecaster)
    expected = sum((weights.fisher[name].double() * steps[name].double() ** 2).sum() for name in weights.fisher)
    torch.testing.assert_close(penalty.double(), 0.15 * expected, rtol=1e-4, atol=0)
    held = _held(forecaster)
    for name, gradient in zip(held, torch.autograd.grad(penalty, list(held.values())), strict=True):
        torch.testing.assert_close(
            gradient, 0.3 * weights.fisher[name] * (held[name] - weights.centre[name]), rtol=1e-4, atol=1e-9
        )


def _held(forecaster: Forecaster) -> dict[str, torch.nn.Parameter]:
    return {name: part for name, part in forecaster.named_parameters() if name not in ROWS}


@given(strength=st.floats(0, 10), seed=st.integers(0, 99))
def test_the_penalty_is_never_negative_and_in_proportion_to_its_strength(strength: float, seed: int) -> None:
    linear = torch.nn.Linear(3, 2)
    weak, strong = ElasticWeights(strength), ElasticWeights(2 * strength)
    gradients = [[torch.full_like(part, 0.5 + seed) for part in linear.parameters()]]
    for weights in (weak, strong):
        weights.anchor(linear, gradients)  # type: ignore[arg-type]
    move(linear, seed)  # type: ignore[arg-type]
    found, twice = weak.penalty(linear), strong.penalty(linear)  # type: ignore[arg-type]
    assert found >= 0
    torch.testing.assert_close(twice, 2 * found)


def test_sensors_that_come_and_go_leave_the_penalty_alone(forecaster, arrival) -> None:
    weights = ElasticWeights(1.0)
    weights.anchor(forecaster, arrival.gradients(forecaster))
    move(forecaster, seed=3)
    before = weights.penalty(forecaster).item()
    forecaster.expand(NodeSet.of("cabxyz"))
    assert weights.penalty(forecaster).item() == before > 0


def test_frozen_unknown_and_reshaped_parameters_are_not_held(forecaster, arrival) -> None:
    weights = ElasticWeights(1.0)
    forecaster.prompts.requires_grad_(False)
    weights.anchor(forecaster, arrival.gradients(forecaster))
    assert not any(name.startswith("prompts") for name in weights.centre)
    move(forecaster, seed=5)
    weights.centre["inner.fc.bias"] = weights.centre["inner.fc.bias"][:2]
    del weights.centre["inner.fc.weight"]
    fc = dict(forecaster.inner.fc.named_parameters())
    penalty = weights.penalty(forecaster)
    assert torch.autograd.grad(penalty, list(fc.values()), allow_unused=True) == (None, None)
    forecaster.requires_grad_(False)
    assert weights.penalty(forecaster).item() == 0


def test_without_an_anchor_there_is_no_penalty(forecaster) -> None:
    penalty = ElasticWeights(1.0).penalty(forecaster)
    assert penalty.item() == 0
    assert penalty.shape == ()
    assert penalty.dtype == torch.float32
    assert not penalty.requires_grad


def test_a_stored_anchor_gives_the_same_penalty(forecaster, arrival) -> None:
    one, other = ElasticWeights(1.0), ElasticWeights(1.0)
    one.anchor(forecaster, arrival.gradients(forecaster))
    other.anchor(torch.nn.Linear(2, 2), [])  # type: ignore[arg-type]
    other.load_state({**one.state(), "something.else": torch.zeros(2)})
    assert other.state().keys() == one.state().keys()
    move(forecaster, seed=1)
    assert torch.equal(one.penalty(forecaster), other.penalty(forecaster))


def test_gradients_of_another_model_are_refused(forecaster) -> None:
    with pytest.raises(ValueError, match="shorter"):
        ElasticWeights(1.0).anchor(forecaster, [[]])
