"""The default strategy: graph operators are learned once, what adapts to sensor, hour and day is tuned."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.strategies import strategies

CALENDAR = {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2}


@pytest.mark.parametrize("backbone", [CALENDAR, {"name": "stgnn", "hidden": 8}])
def test_later_periods_change_everything_but_the_graph_operators(make_learner, make_history, compute, backbone) -> None:
    learner = make_learner("prompt_tuning", backbone=backbone, seasonal=["1d"] if "calendar" in backbone else [])
    first, second, _ = make_history(learner.stream).values()
    before = learner.learn(first, None, compute=compute)
    after = learner.learn(second, before, compute=compute, earlier=first)
    weights = [parts["backbone"].under("weights") for parts in (before, after)]
    for name, value in weights[0].items():
        frozen = name.startswith(("gcn1", "gcn2", "tcn"))
        assert torch.equal(value, weights[1][name]) == frozen, name
    basis = [parts["prompt_pool"].under("weights")["basis"] for parts in (before, after)]
    assert not torch.equal(*basis)


def test_the_first_period_trains_everything(make_learner, make_history, make_arrival) -> None:
    learner = make_learner("prompt_tuning", backbone=CALENDAR)
    data = next(iter(make_history(learner.stream).values()))
    prepared = strategies.build("prompt_tuning").prepare(learner.build(5), make_arrival(learner, data), data.nodes)
    assert all(parameter.requires_grad for parameter in prepared.parameters())


def test_on_a_backbone_that_names_no_adaptive_part_it_is_eac(make_learner, make_history, compute) -> None:
    trained = []
    for strategy in ("prompt_tuning", "eac"):
        learner = make_learner(strategy, backbone={"name": "universal", "hidden": 8}, name="model")
        first, second, _ = make_history(learner.stream).values()
        parts = learner.learn(second, learner.learn(first, None, compute=compute), compute=compute, earlier=first)
        trained.append(parts["backbone"].under("weights") | parts["prompt_pool"].under("weights"))
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_a_model_without_prompts_tunes_the_rest(make_learner, make_history, compute) -> None:
    learner = make_learner("prompt_tuning", backbone=CALENDAR, prompt_pool=None)
    first, second, _ = make_history(learner.stream).values()
    parts = learner.learn(second, learner.learn(first, None, compute=compute), compute=compute, earlier=first)
    assert 0 < parts["backbone"].facts["trainable"] < parts["backbone"].facts["parameters"]
