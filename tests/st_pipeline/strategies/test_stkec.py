"""STKEC: which sensors a period trains on, what the memory is told, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.errors import InputError
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Selection
from st_pipeline.strategies.parts.node_drift import drift_scores, feature_blocks
from st_pipeline.strategies.parts.node_influence import influences
from st_pipeline.strategies.stkec import KnowledgeExpansion
from st_pipeline.training.checkpoint import Checkpoint, same_weights

BACKBONE = {"name": "stkec", "hidden": 8, "patterns": 3}
PLAIN = {"prompt_pool": None, "backbone": BACKBONE}


@pytest.fixture
def second(make_second) -> Callable[..., tuple[Any, KnowledgeExpansion, Selection]]:
    """`second(periods=None, previous=True, backbone=..., **options)`: model, strategy and selection of period 2."""
    return partial(make_second, "stkec", backbone=BACKBONE)


def changed(data: PeriodData, name: str) -> PeriodData:
    """A sensor that takes two values instead of a daily wave."""
    values = data.tensor.values.copy()
    values[:, data.nodes.ids.index(name)] = np.where(np.arange(len(values)) % 7 < 3, 10.0, 190.0)[:, None]
    return replace(data, tensor=replace(data.tensor, values=values))


def lived(learner: Any, history: list[PeriodData], compute: Any) -> list[dict[str, Checkpoint]]:
    lives: list[dict[str, Checkpoint]] = []
    for earlier, data in zip([None, *history], history, strict=False):
        lives.append(learner.learn(data, lives[-1] if lives else None, earlier=earlier, compute=compute))
    return lives


def test_the_first_period_trains_on_everything(make_learner, make_arrival, history) -> None:
    learner, strategy = make_learner("stkec", **PLAIN), strategies.build("stkec")
    arrival = make_arrival(learner, history[0])
    strategy.prepare(learner.build(5), arrival, history[0].nodes)
    assert strategy.select(arrival, history[0].nodes) == Selection()


@pytest.mark.parametrize("name", ["c", "e"])
def test_new_sensors_and_the_one_that_drifted_are_trained_on(chosen, second, history, name: str) -> None:
    data = changed(history[1], name)
    _, _, selection = second([history[0], data, history[2]], detect=1, random=0, share=0.0, hops=0)
    assert chosen(selection, data) == "".join(sorted("fg" + name))
    assert selection.rows.tolist() == data.nodes.index_of(sorted("fg" + name))


@pytest.mark.parametrize("published", [True, False])
def test_drift_is_that_of_the_old_models_features(
    chosen, second, history, make_learner, make_arrival, published: bool
) -> None:
    forecaster, _, selection = second(detect=2, random=0, share=0.0, published=published)
    arrival = make_arrival(make_learner("stkec", **PLAIN), history[1], history[0])
    before, after = (
        feature_blocks(forecaster, network, steps_per_day=24, raw=published)
        for network in (arrival.previous, arrival.network)
    )
    scores = drift_scores(before[:, [0, 2, 3, 4]], after[:, :4], nan_is_most=published)
    best = scores.argsort(descending=True)[:2]
    assert chosen(selection, history[1]) == "".join(sorted("acde"[row] for row in best)) + "fg"


def test_with_nothing_to_compare_with_new_and_random_sensors_remain(chosen, second, history) -> None:
    _, _, selection = second(previous=False, detect=2, random=1, share=0.0)
    names = chosen(selection, history[1])
    assert set("fg") < set(names)
    assert len(names) == 3


def test_influence_chooses_what_the_influences_say(chosen, second, history, make_learner, make_arrival) -> None:
    forecaster, _, selection = second(selection="influence", detect=2, random=0, share=0.0)
    arrival = make_arrival(make_learner("stkec", **PLAIN), history[1], history[0])
    scores = influences(forecaster, arrival.network, torch.tensor([4, 5]), generator=arrival.generator)
    best = scores[:4].argsort(descending=True)[:2]
    assert chosen(selection, history[1]) == "".join(sorted("acde"[row] for row in best)) + "fg"


def test_without_a_new_sensor_influence_is_that_on_the_whole_network(
    chosen, make_learner, make_arrival, make_stream, make_history
) -> None:
    first, second, _ = make_history(make_stream()).values()
    still = replace(second, nodes=replace(second.nodes, added=()))
    learner, strategy = (
        make_learner("stkec", **PLAIN),
        strategies.build({"name": "stkec", "selection": "influence", "detect": 2, "random": 0, "share": 0.0}),
    )
    forecaster = strategy.prepare(learner.build(5), make_arrival(learner, first), first.nodes)
    arrival = make_arrival(learner, still, first)
    strategy.prepare(forecaster, arrival, still.nodes)
    assert len(chosen(strategy.select(arrival, still.nodes), still)) == 2


@pytest.mark.parametrize(("share", "count"), [(0.0, 2), (0.5, 3), (0.7, 4), (1.0, 6)])
def test_chance_fills_up_to_the_share(chosen, second, history, share: float, count: int) -> None:
    _, _, selection = second(detect=0, random=0, share=share)
    names = chosen(selection, history[1])
    assert len(names) == count
    assert set("fg") <= set(names)


def test_random_sensors_are_old_ones_and_the_published_ones_any(chosen, second, history) -> None:
    _, _, selection = second(detect=0, random=3, share=0.0)
    assert len(chosen(selection, history[1])) == 5
    _, _, selection = second(detect=0, random=3, share=0.0, published=True)
    assert 2 <= len(chosen(selection, history[1])) <= 5


def test_a_sensor_that_was_not_measured_has_not_drifted(chosen, silenced, second, history) -> None:
    data = silenced(history[1], "c")
    for selection in ("drift", "influence"):
        options = {"selection": selection, "detect": 3, "random": 0, "share": 0.0}
        _, _, found = second([history[0], data, history[2]], **options)
        assert chosen(found, data) == "adefg"


@pytest.mark.parametrize("selection", ["drift", "influence"])
def test_a_sensor_without_a_target_is_not_chosen(chosen, silenced, second, history, selection: str) -> None:
    data = silenced(history[1], "cf")
    for share in (0.0, 1.0):
        options = {"selection": selection, "detect": 0, "random": 9, "share": share}
        _, _, found = second([history[0], data, history[2]], **options)
        assert chosen(found, data) == "adeg"
    data = silenced(history[1], "fg")
    _, _, found = second([history[0], data, history[2]], selection=selection, detect=0, random=0, share=0.0)
    assert not found.train


@pytest.mark.parametrize("published", [True, False])
def test_a_memory_is_told_the_clusters_of_the_first_period_alone(
    silenced, make_learner, make_arrival, history, published: bool
) -> None:
    learner = make_learner("stkec", prompt_pool=None, backbone={**BACKBONE, "published": published})
    strategy, first = strategies.build("stkec"), silenced(history[0], "c")
    arrival = make_arrival(learner, first)
    forecaster = strategy.prepare(learner.build(5), arrival, first.nodes)
    clusters = forecaster.node_clusters
    assert clusters[2] == -1
    assert set(clusters[[0, 1, 3, 4]].tolist()) == {0, 1, 2}
    strategy.consolidate(forecaster, arrival)
    assert forecaster.node_clusters is None
    strategy.prepare(forecaster, make_arrival(learner, history[1], first), history[1].nodes)
    assert forecaster.node_clusters is None


def test_sensors_with_the_same_day_share_a_cluster(make_learner, make_arrival, history) -> None:
    first = history[0]
    values = first.tensor.values.copy()
    hours = np.arange(len(values))
    for node, hour in enumerate([2, 14, 2, 14, 8]):
        values[:, node, 0] = 10 * (node + 1) * (1.1 + np.cos(2 * np.pi * (hours - hour) / 24))
    data = replace(first, tensor=replace(first.tensor, values=values))
    learner = make_learner("stkec", **PLAIN)
    forecaster = strategies.build("stkec").prepare(learner.build(5), make_arrival(learner, data), data.nodes)
    one, two, same, other, third = forecaster.node_clusters.tolist()
    assert (one, two) == (same, other)
    assert len({one, two, third}) == 3


def test_another_backbone_is_told_nothing(second) -> None:
    forecaster, _, selection = second(backbone={"name": "stgnn", "hidden": 8})
    assert not hasattr(forecaster, "node_clusters")
    assert selection.train


@pytest.mark.parametrize("fisher", ["arrival", "consolidated"])
def test_the_anchor_is_taken_when_the_option_says(make_learner, make_arrival, history, fisher: str) -> None:
    learner, strategy = make_learner("stkec", **PLAIN), strategies.build({"name": "stkec", "fisher": fisher})
    arrival = make_arrival(learner, history[0])
    forecaster = strategy.prepare(learner.build(5), arrival, history[0].nodes)
    assert not strategy.weights.centre
    strategy.consolidate(forecaster, arrival)
    assert bool(strategy.weights.centre) == (fisher == "consolidated")
    forecaster = strategy.prepare(forecaster, make_arrival(learner, history[1], history[0]), history[1].nodes)
    assert set(strategy.weights.centre) == {name for name, _ in forecaster.named_parameters()}
    assert strategy.penalty(forecaster).detach() == 0
    with torch.no_grad():
        forecaster.memory.patterns += 1
    fisher_of_memory = strategy.weights.fisher["memory.patterns"].sum()
    torch.testing.assert_close(strategy.penalty(forecaster), 5e-4 / 2 * fisher_of_memory)
    assert strategy.penalty(forecaster) > 0


@pytest.mark.parametrize(
    ("options", "published"),
    [({}, False), ({"published": True, "fisher": "arrival"}, True), ({"selection": "influence"}, False)],
    ids=["sound", "published", "influence"],
)
def test_whole_missing_sensors_leave_everything_finite(
    silenced, make_learner, history, compute, options: dict[str, Any], published: bool
) -> None:
    backbone = {**BACKBONE, "published": published}
    training = {"epochs": 1, "batch": 256}
    learner = make_learner({"name": "stkec", **options}, prompt_pool=None, backbone=backbone, training=training)
    periods = [silenced(data, names) for data, names in zip(history, ("b", "cf", "ah"), strict=True)]
    for parts in lived(learner, periods, compute):
        assert all(value.isfinite().all() for value in parts["backbone"].tensors.values())
        assert parts["backbone"].facts["best_epoch"] > 0


def test_what_is_remembered_survives_a_checkpoint(make_learner, history, compute) -> None:
    learner = make_learner("stkec", **PLAIN)
    parts = learner.learn(history[0], None, compute=compute)
    restored = learner.restore(parts).strategy
    state = restored.state()
    assert {"centre.memory.patterns", "fisher.memory.patterns"} <= state.keys()
    again = strategies.build("stkec")
    again.load_state(state)
    assert all(torch.equal(value, again.state()[name]) for name, value in state.items())
    one, other = (learner.learn(history[1], parts, earlier=history[0], compute=compute) for _ in range(2))
    assert same_weights(one["backbone"], other["backbone"])


def test_the_clustering_loss_changes_what_is_learned_only_where_it_is_live(make_learner, history, compute) -> None:
    found = {}
    for published in (True, False):
        backbone = {**BACKBONE, "published": published}
        for strategy in ("stkec", "online"):
            learner = make_learner(strategy, prompt_pool=None, backbone=backbone)
            learner = replace(learner, seed=7, model=learner.model.model_copy(update={"name": "same"}))
            found[published, strategy] = learner.learn(history[0], None, compute=compute)["backbone"].under("weights")
    for published in (True, False):
        one, other = found[published, "stkec"], found[published, "online"]
        assert all(torch.equal(one[name], other[name]) for name in one) == published


@pytest.mark.parametrize(
    ("option", "value"), [("detect", -1), ("random", -1), ("hops", -1), ("strength", -0.1), ("share", 1.1)]
)
def test_options_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} is {value}, expected"):
        strategies.build({"name": "stkec", option: value})
