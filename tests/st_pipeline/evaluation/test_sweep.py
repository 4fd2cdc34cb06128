"""An evaluation by shards has the scores of one of the whole network, and is made where memory asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.errors import InputError
from st_pipeline.evaluation import scoring
from st_pipeline.evaluation.scoring import evaluate_seed
from st_pipeline.evaluation.sweep import Division, divided
from st_pipeline.training.compute import GIB, Compute
from st_pipeline.training.learner import Learner
from st_pipeline.types import Graph, NodeSet

SENSORS = 60


@pytest.fixture
def road(make_learner) -> Callable[..., tuple[Learner, PeriodData]]:
    """`road(**model)`: a model, and a period of sensors one behind the other."""

    def make(**model: Any) -> tuple[Learner, PeriodData]:
        learner: Learner = make_learner(**{"prompt_pool": None, **model})
        period = learner.stream.calendar.period(0)
        ids = tuple(f"s{row:02d}" for row in range(SENSORS))
        values = np.random.default_rng(0).gamma(4, 5, (200, SENSORS, 1)).astype(np.float32)
        times = int(period.start.timestamp()) + 3600 * np.arange(200, dtype=np.int64)
        flags = np.full(values.shape, OBSERVED, dtype=np.uint8)
        tensor = SeriesTensor(period.key, ids, ("flow",), "UTC", values, flags, times)
        nodes = NodeSet.of(ids, period.key)
        first = np.arange(SENSORS - 1)
        graph = Graph.from_edges(first, first + 1, np.ones(SENSORS - 1), num_nodes=SENSORS)
        return learner, PeriodData(period, nodes, tensor, graph)

    return make


def limited(learner: Learner, data: PeriodData, nodes: int) -> Compute:
    """A processor with memory for the arrays, and for a window of so many nodes with theirs."""
    allowed = learner.need(data).resident + learner.need(data, nodes=nodes).least
    return Compute(device="cpu", threads=1, memory_gib=(allowed + 1) / GIB)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window takes as much as a period's arrays."""
    monkeypatch.setattr("st_pipeline.training.memory.WORKING_COPIES", 3000)


def test_the_network_is_cut_no_finer_than_memory_asks(road, crowded) -> None:
    learner, data = road()
    for nodes, count in ((SENSORS, 1), (32, 2), (31, 4), (19, 4), (18, 8)):
        compute = limited(learner, data, nodes)
        compute = replace(compute, memory_gib=1.0) if nodes == SENSORS else compute
        with divided(learner, data, compute, "evaluation") as cut:
            assert cut.count == count
            assert max((len(shard.rows) for shard in cut.shards(data.graph)), default=SENSORS) <= nodes
            assert cut.usage.notes == ([f"{count} shards"] if count > 1 else [])


def test_what_no_shard_fits_is_refused(road, crowded) -> None:
    learner, data = road()
    with (
        pytest.raises(InputError, match="evaluation by 60 shards: needs about"),
        divided(learner, data, limited(learner, data, 3), "evaluation"),
    ):
        pytest.fail("it was let in")


def test_a_model_of_all_sensors_is_refused_in_one_sentence(road, crowded) -> None:
    learner, data = road(backbone={"name": "agcrn", "hidden": 4})
    told = "evaluation: needs about .* cannot be cut into shards instead, since a forecast of this model depends on all"
    with (
        pytest.raises(InputError, match=told),
        divided(learner, data, limited(learner, data, 20), "evaluation"),
    ):
        pytest.fail("it was let in")


@pytest.mark.parametrize(
    "model", [{"strategy": "eac"}, {"prompt_pool": None, "seasonal_skip": True, "seasonal": ["1d"]}]
)
def test_scores_losses_and_diagnostics_are_those_of_the_whole(
    make_learner, make_history, compute, monkeypatch, model: dict[str, Any]
) -> None:
    learner = make_learner(**model)
    history = dict(list(make_history(learner.stream).items())[:2])
    parts = None
    for data in history.values():
        parts = learner.learn(data, parts, compute=compute)
    whole = evaluate_seed(learner, parts, history, compute=compute)

    @contextmanager
    def by_two(learner: Learner, data: PeriodData, compute: Compute, purpose: str) -> Iterator[Division]:
        with learner.planned(data, compute, purpose) as (usage, plan):
            yield Division(usage, plan, count=2, hops=learner.hops(len(data.nodes)))

    monkeypatch.setattr(scoring, "divided", by_two)
    found = evaluate_seed(learner, parts, history, compute=compute)
    names = [name for name in whole.scores.columns if name != "value"]
    assert found.scores[names].equals(whole.scores[names])
    assert found.scores["value"].to_list() == pytest.approx(whole.scores["value"].to_list(), rel=1e-4, nan_ok=True)
    numbers = pl.selectors.float()
    for column in whole.losses.select(numbers).columns:
        torch.testing.assert_close(
            torch.tensor(found.losses[column].to_list()),
            torch.tensor(whole.losses[column].to_list()),
            rtol=1e-4,
            atol=1e-3,
            equal_nan=True,
        )
    sensors = [[one[name] for one in looked.diagnostics["sensors"]] for looked in (found, whole) for name in ("mae",)]
    assert sensors[0] == pytest.approx(sensors[1], rel=1e-3)
    assert [one["sensor_id"] for one in found.diagnostics["traces"]] == [
        one["sensor_id"] for one in whole.diagnostics["traces"]
    ]
