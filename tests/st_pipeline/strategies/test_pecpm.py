"""PECPM: which sensors a period trains on, what the attention is taught, and what is remembered."""

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
from st_pipeline.strategies.parts.daily_patterns import daily_profiles, similarity
from st_pipeline.strategies.pecpm import PatternExpansion
from st_pipeline.training.checkpoint import Checkpoint, same_weights

BACKBONE = {"name": "pecpm", "hidden": 8, "patterns": 6}
PLAIN = {"prompt_pool": None, "backbone": BACKBONE}
EVOLVED_ALONE = {"replay": 0.0, "cap": 1.0, "hops": 0}


@pytest.fixture
def second(make_second) -> Callable[..., tuple[Any, PatternExpansion, Selection]]:
    """`second(periods=None, previous=True, backbone=..., **options)`: model, strategy and selection of period 2."""
    return partial(make_second, "pecpm", backbone=BACKBONE)


def raised(data: PeriodData, name: str, by: float) -> PeriodData:
    """A sensor that counts more than it did."""
    values = data.tensor.values.copy()
    values[:, data.nodes.ids.index(name)] += by
    return replace(data, tensor=replace(data.tensor, values=values))


def test_the_first_period_trains_on_everything_and_builds_the_bank(make_learner, make_arrival, history) -> None:
    learner, strategy = make_learner("pecpm", **PLAIN), strategies.build("pecpm")
    arrival = make_arrival(learner, history[0])
    forecaster = strategy.prepare(learner.build(5), arrival, history[0].nodes)
    assert strategy.select(arrival, history[0].nodes) == Selection()
    values, known = forecaster.attention_labels
    assert len(strategy.bank) == 5
    assert known.all()
    assert values.shape == (5, 6)
    torch.testing.assert_close(values.amax(1), torch.ones(5))  # each of so few nodes is a pattern itself


@pytest.mark.parametrize("name", ["a", "d"])
@pytest.mark.parametrize(("options", "also"), [({"evolved": 0.2}, ""), ({"evolved": 0.5}, "more")])
def test_new_sensors_and_those_that_evolved_most_are_trained_on(
    chosen, second, history, name: str, options: dict[str, Any], also: str
) -> None:
    data = raised(history[1], name, 500)
    _, _, selection = second([history[0], data, history[2]], **EVOLVED_ALONE, **options, published=True)
    found = chosen(selection, data)
    assert set("fg" + name) <= set(found)
    assert len(found) == (5 if also else 3)


def test_the_most_stable_are_replayed(chosen, second, history) -> None:
    data = history[1]
    for name in "acd":
        data = raised(data, name, 500)
    options = {"evolved": 0.0, "replay": 1 / 6, "cap": 1.0, "hops": 0}  # one sensor, which is the stable one
    _, _, selection = second([history[0], data, history[2]], **options)
    assert chosen(selection, data) == "efg"


@pytest.mark.parametrize("published", [True, False])
def test_shares_of_a_small_network_are_rounded_down_as_published_or_up(
    chosen, second, history, published: bool
) -> None:
    _, _, selection = second(evolved=0.01, replay=0.09, cap=1.0, published=published)
    names = chosen(selection, history[1])
    assert set("fg") <= set(names)
    assert len(names) == (2 if published else 4)  # with the one that evolved most and the most stable one


def test_above_the_cap_chance_decides(chosen, second, history) -> None:
    _, _, selection = second(evolved=0.5, replay=0.5, cap=0.5, capped=1 / 3)
    assert len(chosen(selection, history[1])) == 2
    _, _, selection = second(published=True)
    assert not selection.train  # 0.15 of 6 sensors, rounded down


def test_with_nothing_to_compare_with_new_and_random_sensors_remain(chosen, second, history) -> None:
    _, _, selection = second(previous=False, evolved=0.5, replay=0.5, cap=1.0)
    names = chosen(selection, history[1])
    assert set("fg") < set(names)
    assert len(names) == 4  # of the three replayed one would be the most stable


def test_what_was_not_measured_has_neither_evolved_nor_stayed(chosen, silenced, second, history) -> None:
    for periods in ([silenced(history[0], "c"), *history[1:]], [history[0], silenced(history[1], "c"), history[2]]):
        _, _, selection = second(periods, **EVOLVED_ALONE, evolved=1.0)
        assert chosen(selection, periods[1]) == "adefg"


def test_a_sensor_without_a_target_is_not_chosen(chosen, silenced, second, history) -> None:
    data = silenced(history[1], "cf")
    _, strategy, selection = second([history[0], data, history[2]], evolved=1.0, replay=1.0, cap=1.0)
    assert chosen(selection, data) == "adeg"
    assert len(strategy.bank) == 6
    data = silenced(history[1], "fg")
    _, _, selection = second([history[0], data, history[2]], evolved=0.0, replay=0.0)
    assert not selection.train


def test_labels_are_likenesses_to_the_bank_for_the_nodes_that_are_seen(
    second, history, make_learner, make_arrival
) -> None:
    forecaster, strategy, selection = second(keep=2)
    values, known = forecaster.attention_labels
    rows = selection.rows.tolist()
    assert len(values) == len(known) == len(rows) < 6
    arrival = make_arrival(make_learner("pecpm", **PLAIN), history[1])
    profiles = daily_profiles(arrival.network.train, steps_per_day=24)
    alike = similarity(profiles, strategy.bank.patterns.profiles)[rows]
    for found, expected in zip(values.double(), alike, strict=True):
        best = expected.argsort(descending=True)[:2]
        torch.testing.assert_close(found[best], expected[best], rtol=1e-5, atol=1e-6)
        assert (found != 0).sum() == 2


def test_new_patterns_fill_the_bank_and_then_move_it(make_learner, make_arrival, history) -> None:
    learner, strategy = make_learner("pecpm", **PLAIN), strategies.build({"name": "pecpm", **EVOLVED_ALONE})
    forecaster = learner.build(5)
    sizes, numbers = [], []
    for earlier, data in zip([None, *history], history, strict=False):
        forecaster = strategy.prepare(forecaster, make_arrival(learner, data, earlier), data.nodes)
        sizes.append(len(strategy.bank))
        numbers.append(float(strategy.bank.patterns.number.sum()))
    assert sizes == [5, 6, 6]
    assert numbers == [5 * 24, 8 * 24, 11 * 24]  # two new and one evolved sensor; a new one, b again, one evolved


def test_sensors_with_the_same_day_have_the_same_labels(make_learner, make_arrival, history) -> None:
    first = history[0]
    values, hours = first.tensor.values.copy(), np.arange(len(first.tensor.values))
    for node, hour in enumerate([2, 14, 2, 14, 8]):
        values[:, node, 0] = 10 * (node + 1) * (1.1 + np.cos(2 * np.pi * (hours - hour) / 24))
    data = replace(first, tensor=replace(first.tensor, values=values))
    learner = make_learner("pecpm", prompt_pool=None, backbone={**BACKBONE, "patterns": 3})
    strategy = strategies.build({"name": "pecpm", "keep": 1})
    forecaster = strategy.prepare(learner.build(5), make_arrival(learner, data), data.nodes)
    one, two, same, other, third = forecaster.attention_labels.values.argmax(1).tolist()
    assert (one, two) == (same, other)
    assert len({one, two, third}) == 3


def test_a_sensor_without_a_reading_has_no_label(silenced, make_learner, make_arrival, history) -> None:
    data = silenced(history[0], "bd")
    learner, strategy = make_learner("pecpm", **PLAIN), strategies.build("pecpm")
    forecaster = strategy.prepare(learner.build(5), make_arrival(learner, data), data.nodes)
    assert forecaster.attention_labels.known.tolist() == [True, False, True, False, True]
    assert len(strategy.bank) == 3


def test_the_importance_of_weights_knows_nothing_of_labels(make_learner, make_arrival, history) -> None:
    learner, strategy = make_learner("pecpm", **PLAIN), strategies.build("pecpm")
    arrival = make_arrival(learner, history[0])
    forecaster = strategy.prepare(learner.build(5), arrival, history[0].nodes)
    strategy.consolidate(forecaster, arrival)
    assert forecaster.attention_labels is None
    batches = list(arrival.gradients(forecaster))
    for place, (name, _) in enumerate(forecaster.named_parameters()):
        expected = torch.stack([batch[place].square() for batch in batches]).sum(0)
        torch.testing.assert_close(strategy.weights.fisher[name], expected)


@pytest.mark.parametrize("fisher", ["arrival", "consolidated"])
def test_the_anchor_is_taken_when_the_option_says(make_learner, make_arrival, history, fisher: str) -> None:
    learner, strategy = make_learner("pecpm", **PLAIN), strategies.build({"name": "pecpm", "fisher": fisher})
    arrival = make_arrival(learner, history[0])
    forecaster = strategy.prepare(learner.build(5), arrival, history[0].nodes)
    strategy.consolidate(forecaster, arrival)
    assert bool(strategy.weights.centre) == (fisher == "consolidated")
    forecaster = strategy.prepare(forecaster, make_arrival(learner, history[1], history[0]), history[1].nodes)
    assert set(strategy.weights.centre) == {name for name, _ in forecaster.named_parameters()}
    assert strategy.penalty(forecaster).detach() == 0
    with torch.no_grad():
        forecaster.memory.patterns += 1
    of_memory = strategy.weights.fisher["memory.patterns"].sum()
    torch.testing.assert_close(strategy.penalty(forecaster), 1e-3 / 2 * of_memory)


def test_another_backbone_is_taught_nothing(second) -> None:
    forecaster, strategy, selection = second(backbone={"name": "stgnn", "hidden": 8})
    assert not hasattr(forecaster, "attention_labels")
    assert not len(strategy.bank)
    assert selection.train


@pytest.mark.parametrize(
    "options", [{}, {"published": True, "fisher": "arrival", "cap": 1.0}], ids=["sound", "published"]
)
def test_whole_missing_sensors_leave_everything_finite(silenced, make_learner, history, compute, options: Any) -> None:
    training = {"epochs": 1, "batch": 256}
    learner = make_learner({"name": "pecpm", **options}, **PLAIN, training=training)
    periods = [silenced(data, names) for data, names in zip(history, ("b", "cf", "ah"), strict=True)]
    parts: dict[str, Checkpoint] | None = None
    for earlier, data in zip([None, *periods], periods, strict=False):
        parts = learner.learn(data, parts, earlier=earlier, compute=compute)
        assert all(value.isfinite().all() for value in parts["backbone"].tensors.values())
        assert parts["backbone"].facts["best_epoch"] > 0


def test_what_is_remembered_survives_a_checkpoint(make_learner, history, compute) -> None:
    learner = make_learner("pecpm", **PLAIN, training={"epochs": 1, "batch": 256})
    parts = learner.learn(history[0], None, compute=compute)
    state = learner.restore(parts).strategy.state()
    assert {"centre.memory.patterns", "fisher.memory.patterns", "bank.total", "bank.number"} <= state.keys()
    again = strategies.build("pecpm")
    again.load_state(state)
    assert all(torch.equal(value, again.state()[name]) for name, value in state.items())
    one, other = (learner.learn(history[1], parts, earlier=history[0], compute=compute) for _ in range(2))
    assert same_weights(one["backbone"], other["backbone"])
    assert not torch.equal(one["backbone"].tensors["strategy.bank.total"], state["bank.total"])


def test_the_labels_change_what_is_learned_unless_beta_is_0(make_learner, history, compute) -> None:
    found = {}
    for beta in (0.0, 1.0):
        for strategy in ("pecpm", "online"):
            training = {"epochs": 1, "batch": 256}
            learner = make_learner(strategy, prompt_pool=None, backbone={**BACKBONE, "beta": beta}, training=training)
            found[beta, strategy] = learner.learn(history[0], None, compute=compute)["backbone"].under("weights")
    for beta in (0.0, 1.0):
        one, other = found[beta, "pecpm"], found[beta, "online"]
        assert all(torch.equal(one[name], other[name]) for name in one) == (beta == 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("evolved", -0.1), ("replay", 1.5), ("cap", 2.0), ("capped", 0.3), ("keep", 0), ("strength", -1.0), ("hops", -1)],
)
def test_options_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} is {value}, expected"):
        strategies.build({"name": "pecpm", option: value})
