"""TrafficStream: who is trained on and why, and how firmly the weights are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING
from st_pipeline.errors import InputError
from st_pipeline.models.base import Forecaster
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Arrival, Selection
from st_pipeline.strategies.parts.elastic_weights import ElasticWeights
from st_pipeline.training.checkpoint import CHECKPOINTS, Checkpoint, same_weights
from st_pipeline.training.learner import Learner
from st_pipeline.types import NodeSet

NOBODY = {"detect": 0.0, "replay": 0.0}
Chosen = Callable[..., set[str]]


@pytest.fixture(scope="module")
def learner(make_learner) -> Learner:
    return make_learner("traffic_stream")


@pytest.fixture(scope="module")
def first(learner: Learner, history, compute) -> dict[str, Checkpoint]:
    """A model after the first period."""
    return learner.learn(history[0], None, compute=compute)


@pytest.fixture
def select(learner: Learner, first, history, make_arrival) -> Callable[..., Selection]:
    """`select(data, seed=1, earlier=..., **options)`: what a model that knows the first period trains on then."""

    def make(data: PeriodData, *, seed: int = 1, earlier: PeriodData | None = history[0], **options: Any) -> Selection:
        strategy = strategies.build({"name": "traffic_stream", "hops": 0, **options})
        arrival = make_arrival(learner, data, earlier, seed=seed)
        strategy.prepare(learner.restore(first).forecaster, arrival, data.nodes)
        return strategy.select(arrival, data.nodes)

    return make


@pytest.fixture
def chosen(select) -> Chosen:
    """The same by name."""

    def make(data: PeriodData, **options: Any) -> set[str]:
        selection = select(data, **options)
        return {data.nodes.ids[row] for row in selection.nodes.nonzero()} if selection.train else set()

    return make


def with_values(data: PeriodData, name: str, series: Callable[[np.ndarray], np.ndarray]) -> PeriodData:
    """The period with another series at one sensor: a function of the hours."""
    values = data.tensor.values.copy()
    values[:, data.nodes.index_of(name), 0] = series(np.arange(len(values)))[:, None]
    return replace(data, tensor=replace(data.tensor, values=values))


def without_readings(data: PeriodData, names: str, hours: slice = slice(None)) -> PeriodData:
    flags = data.tensor.flags.copy()
    flags[hours, data.nodes.index_of(names)] = MISSING
    return replace(data, tensor=replace(data.tensor, flags=flags))


def spikes(hours: np.ndarray) -> np.ndarray:
    """Short peaks each night, where the others are waves."""
    return np.where(hours % 24 < 2, 200.0, 10.0) + np.random.default_rng(0).normal(0, 1, len(hours))


@pytest.fixture
def unchanged(make_stream, make_history) -> list[PeriodData]:
    """Two periods in which the old sensors keep their series but for the noise, and hardly hear of each other."""
    periods = list(make_history(make_stream(), missing=0.0).values())[:2]
    return [replace(data, graph=replace(data.graph, weight=1e-12 * data.graph.weight)) for data in periods]


@pytest.mark.parametrize("options", [{}, {"published": True}, {"detect_by": "readings"}])
@pytest.mark.parametrize("name", "acde")
def test_the_sensor_whose_series_changes_its_shape_is_detected_first(chosen, unchanged, name: str, options) -> None:
    earlier, data = unchanged
    drifted = with_values(data, name, spikes)
    assert chosen(drifted, earlier=earlier, detect=0.2, replay=0.0, **options) == {"f", "g", name}


def test_a_shift_of_the_level_is_seen_in_the_readings(chosen, unchanged) -> None:
    earlier, data = unchanged
    row = data.nodes.index_of("d")[0]
    raised = with_values(data, "d", lambda hours: data.tensor.values[:, row, 0] + 500)
    assert chosen(raised, earlier=earlier, detect=0.2, replay=0.0, detect_by="readings") == {"f", "g", "d"}


@pytest.mark.parametrize("detect_by", ["features", "readings"])
@pytest.mark.parametrize("name", "acde")
def test_the_sensor_whose_series_changes_is_not_replayed_for_being_stable(
    chosen, unchanged, name: str, detect_by: str
) -> None:
    earlier, data = unchanged
    drifted = with_values(data, name, spikes)
    for share, count in ((0.2, 1), (0.5, 3)):
        found = chosen(drifted, earlier=earlier, detect=0.0, replay=share, detect_by=detect_by)
        assert {"f", "g"} < found <= {"a", "c", "d", "e", "f", "g"} - {name}
        assert len(found) == 2 + count


def test_shares_are_of_all_sensors_rounded_down(chosen, history) -> None:
    for detect, replay, count in ((0.16, 0.16, 0), (0.17, 0.0, 1), (0.17, 0.34, 3), (0.5, 0.5, 4), (1.0, 1.0, 4)):
        assert len(chosen(history[1], detect=detect, replay=replay)) == 2 + count


def test_sensors_that_return_are_new_and_those_that_left_are_not_missed(
    learner, first, history, make_arrival, compute
) -> None:
    second = learner.learn(history[1], first, compute=compute, earlier=history[0])
    arrival = make_arrival(learner, history[2], history[1])
    for detect, expected in ((0.0, {"h", "b"}), (1.0, set(history[2].nodes.ids))):
        strategy = strategies.build({"name": "traffic_stream", "detect": detect, "replay": 0.0})
        strategy.prepare(learner.restore(second).forecaster, arrival, history[2].nodes)
        counted = strategy.select(arrival, history[2].nodes).nodes
        assert {history[2].nodes.ids[row] for row in counted.nonzero()} == expected


def test_random_replay_is_drawn_from_the_old_sensors_by_the_periods_seed(chosen, history) -> None:
    draws = [chosen(history[1], seed=seed, detect=0.0, replay=0.34, replay_by="random") for seed in range(12)]
    assert all(len(found) == 4 and found > {"f", "g"} for found in draws)
    assert len({frozenset(found) for found in draws}) > 1
    again = [chosen(history[1], seed=seed, detect=0.0, replay=0.34, replay_by="random") for seed in range(12)]
    assert again == draws


def test_random_replay_as_published_draws_any_sensor_with_replacement(chosen, history) -> None:
    options = {"detect": 0.0, "replay": 0.5, "replay_by": "random", "published": True}
    sizes = {len(chosen(history[1], seed=seed, **options)) for seed in range(20)}
    assert min(sizes) < 2 + 3
    assert max(sizes) <= 2 + 3


def test_without_the_period_before_replay_is_random_and_nothing_is_detected(chosen, history) -> None:
    found = chosen(history[1], earlier=None, detect=1.0, replay=0.34)
    assert len(found) == 4
    assert chosen(history[1], earlier=None, detect=1.0, replay=0.0) == {"f", "g"}


def test_a_cap_leaves_a_random_part_of_the_choice(chosen, history) -> None:
    draws = [chosen(history[1], seed=seed, detect=1.0, cap=0.5) for seed in range(8)]
    assert {len(found) for found in draws} == {3}
    assert len(set().union(*draws)) > 3
    assert chosen(history[1], detect=1.0, cap=0.0) == set()


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        {"backbone": {"name": "stgnn", "hidden": 8, "calendar": True}, "seasonal": ["1d"], "prompt_pool": None},
        {"backbone": {"name": "universal", "hidden": 8, "temporal": "attention"}},
        {"protocol": "paper"},
    ],
)
def test_any_model_and_protocol_can_be_compared(make_learner, history, compute, model, published: bool) -> None:
    learner = make_learner({"name": "traffic_stream", "detect": 0.2, "published": published}, **model)
    parts = None
    for earlier, data in zip([None, *history], history, strict=False):
        parts = learner.learn(data, parts, earlier=earlier, compute=compute)
        assert parts["backbone"].facts["best_epoch"] > 0
        assert all(value.isfinite().all() for value in parts["backbone"].tensors.values())


@pytest.mark.parametrize("detect_by", ["features", "readings"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_sensor_that_was_silent_cannot_be_compared(chosen, history, which: int, detect_by: str) -> None:
    data = [history[0], history[1]]
    data[which] = without_readings(data[which], "d", slice(100, None))
    found = chosen(data[1], earlier=data[0], detect=1.0, replay=1.0, detect_by=detect_by)
    assert found == {"f", "g", "a", "c", "e"}


def test_what_was_never_measured_is_not_chosen(chosen, history) -> None:
    quiet = without_readings(history[1], "df")
    found = chosen(quiet, detect=0.0, replay=1.0, replay_by="random")
    assert found == {"g", "a", "c", "e"}


def test_the_model_sees_the_neighbourhood_of_the_chosen(select, history) -> None:
    wide, published = (select(history[1], hops=1, **NOBODY, published=flag) for flag in (False, True))
    assert wide.rows.tolist() == [0, 3, 4, 5]
    assert wide.graph is None
    assert set(published.graph.weight.tolist()) == {1.0}


def later(data: PeriodData, period: Any) -> PeriodData:
    """The same network in a later period, with nothing new."""
    nodes = NodeSet(period.key, data.nodes.ids, births=data.nodes.births)
    return replace(data, period=period, nodes=nodes, tensor=replace(data.tensor, period=period.key))


def test_nothing_chosen_leaves_the_model_as_it_is(make_learner, history, compute) -> None:
    learner = make_learner({"name": "traffic_stream", **NOBODY})
    parts = learner.learn(history[0], None, compute=compute)
    after = learner.learn(later(history[0], history[1].period), parts, compute=compute, earlier=history[0])
    for name in ("backbone", "prompt_pool"):
        assert all(torch.equal(after[name].tensors[key], value) for key, value in parts[name].tensors.items())
    assert after["backbone"].facts["trainable"] == 0


def fisher_of(forecaster: Forecaster, arrival: Arrival) -> dict[str, torch.Tensor]:
    weights = ElasticWeights(1.0)
    weights.anchor(forecaster, arrival.gradients(forecaster))
    return weights.state()


def test_importance_is_measured_after_a_period_on_its_own_data(learner, first, history, make_arrival) -> None:
    model = learner.restore(first)
    arrival = make_arrival(learner, history[0])
    for name, value in fisher_of(model.forecaster, arrival).items():
        torch.testing.assert_close(first["backbone"].under("strategy")[name], value, rtol=1e-3, atol=1e-9)
    strategy = strategies.build("traffic_stream")
    strategy.load_state(first["backbone"].under("strategy"))
    prepared = strategy.prepare(model.forecaster, make_arrival(learner, history[1], history[0]), history[1].nodes)
    assert strategy.penalty(prepared).item() == 0
    assert all(
        torch.equal(value, first["backbone"].under("strategy")[name]) for name, value in strategy.state().items()
    )


def test_importance_at_arrival_is_measured_before_training_on_the_new_data(
    learner, first, history, make_arrival
) -> None:
    strategy = strategies.build({"name": "traffic_stream", "fisher": "arrival"})
    arrival = make_arrival(learner, history[1], history[0])
    torch.manual_seed(0)
    prepared = strategy.prepare(learner.restore(first).forecaster, arrival, history[1].nodes)
    assert strategy.penalty(prepared).item() == 0
    before = strategy.state()
    for name, value in fisher_of(prepared, arrival).items():
        torch.testing.assert_close(before[name], value, rtol=1e-3, atol=1e-9)
    strategy.consolidate(prepared, arrival)
    assert all(torch.equal(value, before[name]) for name, value in strategy.state().items())


def test_the_l2_form_holds_every_weight_alike_and_none_holds_nothing(learner, first, history, make_arrival) -> None:
    arrival = make_arrival(learner, history[0])
    penalties = {}
    for smoothing in ("l2", "none"):
        forecaster = learner.restore(first).forecaster
        strategy = strategies.build({"name": "traffic_stream", "smoothing": smoothing, "strength": 0.5})
        strategy.consolidate(forecaster, arrival)
        with torch.no_grad():
            for part in forecaster.inner.parameters():
                part += 0.1
        penalties[smoothing] = strategy.penalty(forecaster).item()
    count = sum(part.numel() for part in learner.restore(first).forecaster.inner.parameters())
    assert penalties["l2"] == pytest.approx(0.5 / 2 * 0.01 * count, rel=1e-4)
    assert penalties["none"] == 0


@pytest.mark.parametrize("smoothing", ["ewc", "l2"])
@pytest.mark.parametrize("fisher", ["consolidated", "arrival"])
def test_weights_that_are_held_firmly_stay_nearer(make_learner, history, compute, smoothing: str, fisher: str) -> None:
    moved = {}
    for strength in (0.0, 1e3):
        spec = {"name": "traffic_stream", "smoothing": smoothing, "strength": strength, "fisher": fisher}
        learner = make_learner({**spec, "hops": 1}, training={"epochs": 2, "weight_decay": 0, "learning_rate": 0.001})
        first = learner.learn(history[0], None, compute=compute)
        second = learner.learn(history[1], first, compute=compute, earlier=history[0])
        before, after = (parts["backbone"].under("weights") for parts in (first, second))
        moved[strength] = sum(float((after[name] - value).square().sum()) for name, value in before.items())
    assert 0 < moved[1e3] < moved[0.0]


@pytest.mark.parametrize("fisher", ["consolidated", "arrival"])
def test_a_stored_model_goes_on_exactly_as_it_would_have(make_learner, history, compute, fisher: str) -> None:
    learner = make_learner({"name": "traffic_stream", "fisher": fisher, "strength": 10.0, "detect": 0.2})
    first = learner.learn(history[0], None, compute=compute)
    second = learner.learn(history[1], first, compute=compute, earlier=history[0])
    stored = {name: CHECKPOINTS.load(CHECKPOINTS.dump({1: part}))[1] for name, part in second.items()}
    one, other = (learner.learn(history[2], parts, compute=compute, earlier=history[1]) for parts in (second, stored))
    assert all(same_weights(one[name], other[name]) for name in one)
    forgetful = {
        name: Checkpoint(
            {key: value for key, value in part.tensors.items() if not key.startswith("strategy")}, part.facts, {}
        )
        for name, part in second.items()
    }
    third = learner.learn(history[2], forgetful, compute=compute, earlier=history[1])
    assert same_weights(one["backbone"], third["backbone"]) == (fisher == "arrival")


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("detect", 1.5, "detect is 1.5"),
        ("replay", -0.1, "replay is -0.1"),
        ("cap", 2, "cap is 2"),
        ("hops", -1, "hops is -1"),
        ("strength", -1e-4, "strength is -0.0001"),
        ("replay_by", "oldest", "replay_by"),
        ("fisher", "never", "fisher"),
        ("lamda", 1.0, "lamda"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        strategies.build({"name": "traffic_stream", option: value})
