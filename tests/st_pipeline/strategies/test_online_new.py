"""Online-ST-NN: what is new is learned, from what lies around it and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING
from st_pipeline.errors import InputError
from st_pipeline.strategies import strategies
from st_pipeline.training.checkpoint import same_weights
from st_pipeline.types import Graph, NodeSet


def without_news(first: PeriodData, later: PeriodData) -> PeriodData:
    """The first network again, in a later period."""
    nodes = NodeSet(later.period.key, first.nodes.ids, births=first.nodes.births)
    return replace(first, period=later.period, nodes=nodes, tensor=replace(first.tensor, period=later.period.key))


def with_values(data: PeriodData, rows: list[int], seed: int) -> PeriodData:
    """Other readings at the given nodes."""
    values = data.tensor.values.copy()
    values[:, rows] = np.random.default_rng(seed).gamma(2, 30, values[:, rows].shape)
    return replace(data, tensor=replace(data.tensor, values=values))


def test_the_sensors_that_come_or_return_are_learned(make_learner, make_arrival, history) -> None:
    learner = make_learner("online_new")
    strategy = strategies.build({"name": "online_new", "hops": 1})
    for earlier, data, new, seen in (
        (history[0], history[1], "fg", "aefg"),
        (history[1], history[2], "hb", "agbh"),
    ):
        selection = strategy.select(make_arrival(learner, data, earlier), data.nodes)
        assert {data.nodes.ids[row] for row in selection.nodes.nonzero()} == set(new)
        assert {data.nodes.ids[row] for row in selection.rows} == set(seen)
        assert selection.graph is None


@pytest.mark.parametrize("published", [False, True])
def test_without_a_new_sensor_the_model_stays_as_it_is(make_learner, history, compute, published: bool) -> None:
    learner = make_learner({"name": "online_new", "published": published})
    first = learner.learn(history[0], None, compute=compute)
    second = learner.learn(without_news(history[0], history[1]), first, compute=compute, earlier=history[0])
    assert second["backbone"].facts["best_epoch"] == second["backbone"].facts["trainable"] == 0
    for part in ("backbone", "prompt_pool"):
        for name, value in first[part].under("weights").items():
            assert torch.equal(second[part].under("weights")[name], value)


def test_a_new_sensor_changes_the_model(make_learner, history, compute) -> None:
    learner = make_learner("online_new")
    first = learner.learn(history[0], None, compute=compute)
    second = learner.learn(history[1], first, compute=compute, earlier=history[0])
    assert second["backbone"].facts["best_epoch"] > 0
    before, after = (parts["backbone"].under("weights") for parts in (first, second))
    assert not any(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(("options", "unseen"), [({"hops": 1}, [1, 2]), ({"hops": 0}, [0, 1, 2, 3])])
def test_training_never_reads_what_lies_farther_away(
    make_learner, history, compute, options: dict[str, Any], unseen: list[int]
) -> None:
    learner = make_learner({"name": "online_new", **options}, prompt_pool=None)
    first = learner.learn(history[0], None, compute=compute)
    one, far, near = (
        learner.learn(data, first, compute=compute, earlier=history[0])["backbone"].under("weights")
        for data in (history[1], with_values(history[1], unseen, 5), with_values(history[1], [*unseen, 4], 5))
    )
    assert all(torch.equal(value, far[name]) for name, value in one.items())
    assert not all(torch.equal(value, near[name]) for name, value in one.items())


def test_the_prompts_of_unseen_sensors_are_not_learned(make_learner, history, compute) -> None:
    learner = make_learner({"name": "online_new", "hops": 0}, training={"epochs": 2, "weight_decay": 0})
    first = learner.learn(history[0], None, compute=compute)["prompt_pool"]
    parts = learner.learn(history[0], None, compute=compute)
    second = learner.learn(history[1], parts, compute=compute, earlier=history[0])["prompt_pool"]
    rows = {name: second.tensors["weights.nodes.rows"][row] for row, name in enumerate(second.facts["nodes"])}
    for row, name in enumerate(first.facts["nodes"]):
        if name != "b":  # which is away
            assert torch.equal(rows[name], first.tensors["weights.nodes.rows"][row])


def test_as_published_the_neighbourhood_goes_down_with_weights_of_one(make_learner, make_arrival, history) -> None:
    learner = make_learner("online_new")
    strategy = strategies.build({"name": "online_new", "hops": 1, "published": True})
    selection = strategy.select(make_arrival(learner, history[1], history[0]), history[1].nodes)
    assert selection.rows.tolist() == [0, 3, 4, 5]  # f and g are rows 4 and 5, and the ring joins g to a
    assert set(selection.graph.weight.tolist()) == {1.0}
    dense = selection.graph.dense()
    assert torch.equal(dense, dense.T)


def test_as_published_new_sensors_without_an_edge_are_not_trained(make_learner, make_arrival, history) -> None:
    learner = make_learner("online_new")
    lonely = replace(history[1], graph=Graph.from_edges([0, 1], [1, 0], [1.0, 1.0], num_nodes=6))
    arrival = make_arrival(learner, lonely, history[0])
    assert strategies.build("online_new").select(arrival, lonely.nodes).train
    assert not strategies.build({"name": "online_new", "published": True}).select(arrival, lonely.nodes).train


@pytest.mark.parametrize(("silent", "expected"), [("f", "g"), ("g", "f"), ("fg", "")])
def test_a_new_sensor_without_a_reading_is_not_learned_yet(
    make_learner, make_arrival, history, silent: str, expected: str
) -> None:
    data = history[1]
    flags = data.tensor.flags.copy()
    flags[:, data.nodes.index_of(silent)] = MISSING
    quiet = replace(data, tensor=replace(data.tensor, flags=flags))
    selection = strategies.build("online_new").select(
        make_arrival(make_learner("online_new"), quiet, history[0]), data.nodes
    )
    assert selection.train == bool(expected)
    if expected:
        assert [data.nodes.ids[row] for row in selection.nodes.nonzero()] == [expected]


def test_negative_hops_are_refused() -> None:
    with pytest.raises(InputError, match="hops is -1"):
        strategies.build({"name": "online_new", "hops": -1})


def test_equal_runs_give_equal_weights(make_learner, history, compute) -> None:
    learner = make_learner("online_new")
    first = learner.learn(history[0], None, compute=compute)
    one, other = (learner.learn(history[1], first, compute=compute, earlier=history[0]) for _ in range(2))
    assert all(same_weights(one[part], other[part]) for part in one)
