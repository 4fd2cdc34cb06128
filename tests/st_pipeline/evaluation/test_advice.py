"""The advice for a period: from what is known before its training, whatever the order of its sensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.splits import split
from st_pipeline.evaluation.actions import Outcomes
from st_pipeline.evaluation.advice import Arrival, advise
from st_pipeline.evaluation.probe import probe
from st_pipeline.training.checkpoint import BySeed
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner

FIRST, SECOND, THIRD = "2024-01-01", "2024-01-22", "2024-02-12"
Advised = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def learner(make_learner: Callable[..., Learner]) -> Learner:
    return make_learner("online")


@pytest.fixture
def advised(learner: Learner, history: dict[str, PeriodData], compute: Compute) -> Advised:
    """`advised(period, **changes)`: the advice for a period; `data` replaces periods."""

    def make(period: str = SECOND, *, data: dict[str, PeriodData] | None = None, **changes: Any) -> dict[str, Any]:
        used = history | (data or {})
        network: dict[str, Any] = {
            "tensor": {key: one.tensor for key, one in used.items()},
            "node_set": {key: one.nodes for key, one in used.items()},
            "adjacency": {key: adjacency_of(one) for key, one in used.items()},
        }
        plain: dict[str, Any] = {"parts": {}, "outcomes": Outcomes(), "probes": {}}
        arrival = Arrival(learner.stream, learner.model, period, network, **{**plain, **changes})
        return advise(arrival, compute=compute)

    return make


def adjacency_of(data: PeriodData) -> Adjacency:
    graph = data.graph
    edges = (part.numpy() for part in (graph.row, graph.column, graph.weight))
    return Adjacency(data.period.key, data.nodes.ids, {}, *edges)


def unchanged(history: dict[str, PeriodData]) -> dict[str, PeriodData]:
    """The second period, with the sensors, the graph and the readings of the first one."""
    first, second = history[FIRST], history[SECOND]
    nodes = replace(first.nodes, period=SECOND, added=())
    tensor = replace(first.tensor, period=SECOND, times=second.tensor.times)
    return {SECOND: PeriodData(second.period, nodes, tensor, first.graph)}


def scaled(data: dict[str, PeriodData], factor: float) -> dict[str, PeriodData]:
    return {
        key: replace(one, tensor=replace(one.tensor, values=one.tensor.values * np.float32(factor)))
        for key, one in data.items()
    }


def test_no_change_asks_for_nothing(advised: Advised, history: dict[str, PeriodData]) -> None:
    found = advised(data=unchanged(history))
    assert found["action"] == "nothing"
    assert found["graph"]["spectral_distance"] == 0
    assert found["signals"]["shifted"] == found["signals"]["new"] == 0
    assert found["signals"]["profile"] < 0.1
    assert not any(found["changes"].values())


def test_many_new_sensors_ask_for_prompts_at_least(advised: Advised) -> None:
    found = advised()
    assert found["action"] in ("prompts_only", "retrain")
    assert found["changes"]["added"] == ["f", "g"] and found["changes"]["retired"] == ["b"]
    assert any("2 of 6 sensors are new or back" in reason["text"] for reason in found["reasons"])


@pytest.mark.parametrize("factor", [0.1, 3.6, 1000.0])
def test_another_unit_of_all_sensors_asks_for_training_anew(
    advised: Advised, history: dict[str, PeriodData], factor: float
) -> None:
    found = advised(data=scaled(unchanged(history), factor))
    assert found["action"] == "retrain"
    assert "usual week" in found["reasons"][0]["text"]


def test_the_order_of_the_sensors_does_not_matter(advised: Advised, history: dict[str, PeriodData]) -> None:
    data = history[SECOND]
    order = [4, 2, 0, 5, 1, 3]
    ids = tuple(data.nodes.ids[row] for row in order)
    tensor = replace(
        data.tensor, sensor_ids=ids, values=data.tensor.values[:, order], flags=data.tensor.flags[:, order]
    )
    place = np.argsort(order)
    graph = type(data.graph).from_edges(
        place[data.graph.row], place[data.graph.column], data.graph.weight, num_nodes=len(ids)
    )
    turned = advised(data={SECOND: PeriodData(data.period, replace(data.nodes, ids=ids), tensor, graph)})
    plain = advised()
    distance = plain["graph"].pop("spectral_distance")
    assert turned["graph"].pop("spectral_distance") == pytest.approx(distance, abs=1e-9)
    assert turned == plain


def test_the_test_part_is_not_looked_at(
    advised: Advised, history: dict[str, PeriodData], parts: dict[str, BySeed], learner: Learner
) -> None:
    data = history[SECOND]
    values = data.tensor.values.copy()
    values[split(len(values), learner.stream.split).test.start :] = 9e5
    spoilt = {SECOND: replace(data, tensor=replace(data.tensor, values=values))}
    assert advised(data=spoilt, parts=parts) == advised(parts=parts)


def test_without_earlier_results_it_says_what_is_missing(advised: Advised) -> None:
    found = advised()
    assert found["forecast"]["ratio"] is found["forecast"]["change"] is None
    assert found["costs"]["nothing"]["seconds"] == 0
    assert found["costs"]["prompts_only"]["seconds"] is found["costs"]["retrain"]["seconds"] is None
    told = " ".join(found["missing"])
    assert "has no checkpoint of 2024-01-01" in told and "training anew" in told
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_frozen_model_is_held_against_its_last_update(
    advised: Advised, parts: dict[str, BySeed], history: dict[str, PeriodData], learner: Learner, compute: Compute
) -> None:
    found = advised(parts=parts)
    made = probe(learner.stream, learner.model, parts, history[SECOND], compute=compute)
    assert made is not None
    assert found["forecast"]["ratio"] == made.ratio == found["probes"][SECOND]
    assert "no comparable score of 2024-01-01" in found["missing"][0]
    usual = Outcomes(tuned={FIRST: made.ratio * 5}, naive={FIRST: 10.0})
    change = advised(parts=parts, outcomes=usual)["forecast"]["change"]
    assert change == pytest.approx(100)
    assert any("lost 100 %" in reason["text"] for reason in advised(parts=parts, outcomes=usual)["reasons"])


def test_what_came_of_earlier_forecasts_says_how_sure_this_one_is(advised: Advised, parts: dict[str, BySeed]) -> None:
    outcomes = Outcomes(frozen={SECOND: 12.0, THIRD: 99.0}, naive={SECOND: 10.0, THIRD: 10.0})
    found = advised(THIRD, outcomes=outcomes, probes={SECOND: 1.0})
    assert found["forecast"]["misses"] == {SECOND: pytest.approx(20)}


def test_nothing_is_taken_from_the_period_itself_or_later(advised: Advised) -> None:
    late = {SECOND: 1.0, THIRD: 1.0}
    outcomes = Outcomes(
        dict.fromkeys(("nothing", "prompts_only", "retrain"), late), tuned=late, frozen=late, naive=late
    )
    assert advised(outcomes=outcomes) == advised()


def test_the_first_period_is_trained(advised: Advised) -> None:
    found = advised(FIRST)
    assert (found["action"], found["before"], found["missing"]) == ("retrain", None, [])
    assert found["graph"]["spectral_distance"] is None
