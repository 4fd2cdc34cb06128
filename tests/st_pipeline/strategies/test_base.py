"""What every strategy keeps to, and what each makes of a model's earlier life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.checkpoint import Checkpoint, same_weights
from st_pipeline.training.learner import Learner
from st_pipeline.types import Graph

EVERY = strategies.names()
SECTIONS = {"lora": {"lora": {"rank": 2}}}  # that a strategy's model needs beside prompts


@pytest.fixture
def make_learner(make_learner) -> Callable[..., Learner]:
    """The usual model, with the sections that its strategy needs."""
    return lambda strategy, **model: make_learner(strategy, **{**SECTIONS.get(strategy, {}), **model})


@pytest.fixture
def history(make_stream, make_history) -> list[PeriodData]:
    return list(make_history(make_stream()).values())


@pytest.fixture
def live(make_learner, history, compute) -> Callable[..., list[dict[str, Checkpoint]]]:
    """The checkpoints of a model's life, period by period."""

    def make(strategy: Any, **model: Any) -> list[dict[str, Checkpoint]]:
        learner: Learner = make_learner(strategy, **model)
        lives: list[dict[str, Checkpoint]] = []
        for earlier, data in zip([None, *history], history, strict=False):
            lives.append(learner.learn(data, lives[-1] if lives else None, earlier=earlier, compute=compute))
        return lives

    return make


def values(forecaster: Forecaster) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in forecaster.state_dict().items()}


@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_prepares_a_model_for_each_network(make_learner, make_arrival, history, name: str) -> None:
    learner = make_learner(name)
    forecaster, strategy = learner.build(5), strategies.build({"name": name})
    assert isinstance(strategy, Strategy)
    for earlier, data in zip([None, *history], history, strict=False):
        arrival = make_arrival(learner, data, earlier)
        forecaster = strategy.prepare(forecaster, arrival, data.nodes)
        assert forecaster.prompts().shape[0] == len(data.nodes)
        assert forecaster.prompts.nodes.ids == data.nodes.ids
        assert isinstance(strategy.select(arrival, data.nodes), Selection)


@pytest.mark.parametrize("name", EVERY)
def test_the_first_period_trains_everything(make_learner, make_arrival, history, name: str) -> None:
    learner = make_learner(name)
    forecaster, strategy = learner.build(5).requires_grad_(False), strategies.build({"name": name})
    arrival = make_arrival(learner, history[0])
    prepared = strategy.prepare(forecaster, arrival, history[0].nodes)
    assert all(parameter.requires_grad for parameter in prepared.parameters())
    assert strategy.select(arrival, history[0].nodes).train


@pytest.mark.parametrize("name", EVERY)
def test_the_penalty_is_a_scalar_that_can_be_added_to_a_loss(make_learner, make_arrival, history, name: str) -> None:
    learner = make_learner(name)
    forecaster, strategy = learner.build(5), strategies.build({"name": name})
    penalty = strategy.penalty(strategy.prepare(forecaster, make_arrival(learner, history[0]), history[0].nodes))
    assert penalty.shape == ()
    assert penalty.isfinite()
    assert penalty.dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
def test_what_a_strategy_remembers_can_be_stored(name: str) -> None:
    one, other = strategies.build({"name": name}), strategies.build({"name": name})
    other.load_state(one.state())
    assert all(torch.equal(value, other.state()[key]) for key, value in one.state().items())


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_lives_through_growth_shrinkage_and_return(live, history, name: str) -> None:
    for parts, data in zip(live(name), history, strict=True):
        assert parts["prompt_pool"].tensors["weights.nodes.rows"].shape == (len(data.nodes), 2)
        assert all(value.isfinite().all() for part in parts.values() for value in part.tensors.values())


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_survives_a_sensor_that_moves(make_learner, history, compute, name: str) -> None:
    learner = make_learner(name)
    first, second = history[:2]
    moved = second.nodes.retained[0]
    (row,) = second.nodes.index_of([moved])
    nodes = replace(second.nodes, moved=(moved,))
    elsewhere = torch.tensor([place for place in range(len(nodes)) if place != row])[-2:]
    far = Graph.from_edges([row, *elsewhere], [*elsewhere, row], torch.ones(3), num_nodes=len(nodes))
    before = learner.learn(first, None, compute=compute)
    parts = learner.learn(replace(second, nodes=nodes, graph=far), before, earlier=first, compute=compute)
    assert parts["backbone"].facts["nodes"] == list(nodes.ids)
    assert all(value.isfinite().all() for part in parts.values() for value in part.tensors.values())
    assert parts["prompt_pool"].tensors["weights.nodes.rows"].shape[0] == len(nodes)


def test_pretrain_never_learns_again(live) -> None:
    first, second, third = live("pretrain")
    assert first["backbone"].facts["best_epoch"] > 0
    for parts in (second, third):
        assert parts["backbone"].facts["best_epoch"] == parts["backbone"].facts["trainable"] == 0
        for name in first["backbone"].under("weights"):
            assert torch.equal(parts["backbone"].under("weights")[name], first["backbone"].under("weights")[name])
        assert torch.equal(
            parts["prompt_pool"].under("weights")["basis"], first["prompt_pool"].under("weights")["basis"]
        )
    rows = {name: first["prompt_pool"].tensors["weights.nodes.rows"][place] for place, name in enumerate("abcde")}
    for place, name in enumerate(third["prompt_pool"].facts["nodes"]):
        if name in rows:  # sensor b was away in between
            assert torch.equal(third["prompt_pool"].tensors["weights.nodes.rows"][place], rows[name])


def test_online_continues_with_what_it_knows_and_trains_all_of_it(make_learner, history) -> None:
    forecaster, strategy = make_learner("online").build(5), strategies.build({"name": "online"})
    forecaster = strategy.prepare(forecaster, history[0].period, history[0].nodes)
    before = values(forecaster)
    prepared = strategy.prepare(forecaster, history[1].period, history[1].nodes)
    assert all(torch.equal(value, before[key]) for key, value in values(prepared).items() if "nodes" not in key)
    assert torch.equal(prepared.prompts.nodes()[:4], before["prompts.nodes.rows"][[0, 2, 3, 4]])
    assert all(parameter.requires_grad for parameter in prepared.parameters())


def test_retrain_starts_from_nothing(make_learner, history) -> None:
    forecaster, strategy = make_learner("retrain").build(5), strategies.build({"name": "retrain"})
    forecaster = strategy.prepare(forecaster, history[0].period, history[0].nodes)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.fill_(7.0)
    prepared = strategy.prepare(forecaster, history[1].period, history[1].nodes)
    assert not any((parameter == 7.0).any() for parameter in prepared.parameters())
    assert all(parameter.requires_grad for parameter in prepared.parameters())
    assert not len(prepared.prompts.nodes.cold)


@pytest.mark.parametrize(("name", "forgets"), [("retrain", True), ("online", False), ("eac", False)])
def test_only_retraining_gives_the_same_weights_whatever_was_learned_before(
    make_learner, history, compute, name: str, forgets: bool
) -> None:
    learner = make_learner(name)
    parts = learner.learn(history[0], None, compute=compute)
    others = {
        key: Checkpoint(
            {n: v + 0.01 if n.startswith("weights") else v for n, v in part.tensors.items()}, part.facts, {}
        )
        for key, part in parts.items()
    }
    one, other = (learner.learn(history[1], previous, compute=compute) for previous in (parts, others))
    assert same_weights(one["backbone"], other["backbone"]) == forgets
    assert same_weights(one["prompt_pool"], other["prompt_pool"]) == forgets


def test_every_file_of_the_package_is_an_entry() -> None:
    assert {"eac", "lora", "online", "pretrain", "retrain"} <= set(STRATEGIES.names())
