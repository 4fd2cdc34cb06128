"""On a CUDA device: the losses of the CPU, the same bits twice, memory that is watched. Skipped without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.errors import InputError
from st_pipeline.evaluation.scoring import evaluate_seed
from st_pipeline.training.checkpoint import Checkpoint, same_weights
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.types import DENSE_NODES, Graph, NodeSet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
CUDA, CPU = Compute(device="cuda"), Compute(device="cpu", threads=4)
CALENDAR: dict[str, Any] = {
    "backbone": {"name": "stgnn", "hidden": 8, "calendar": True, "context": 4},
    "seasonal": ["1d", "7d"],
    "scaling": {"per": "sensor", "transform": "sqrt"},
}
KINDS = {"sound": {}, "calendar": CALENDAR, "paper": {"protocol": "paper"}}
Life = list[dict[str, Checkpoint]]


@pytest.fixture(params=[20, DENSE_NODES + 30], ids=["dense", "sparse"], scope="module")
def network(request: pytest.FixtureRequest, make_stream: Any, random_graph: Any) -> list[PeriodData]:
    """Two periods, the second with five sensors more."""
    history = []
    for period in make_stream().calendar.periods()[:2]:
        size = request.param + 5 * period.index
        ids = tuple(f"s{index:03d}" for index in range(size))
        added = ids if period.index == 0 else ids[-5:]
        births = {name: "2024-01-01" if row < request.param else period.key for row, name in enumerate(ids)}
        random = np.random.default_rng(period.index)
        hours = np.arange(24 * round(period.days))[:, None]
        values = 50 + 30 * np.sin(2 * np.pi * (hours + np.arange(size)) / 24) + random.normal(0, 3, (len(hours), size))
        flags = np.where(random.random(values.shape) < 0.1, MISSING, OBSERVED).astype(np.uint8)[..., None]
        readings = np.where(flags == MISSING, 0, np.abs(values)[..., None]).astype(np.float32)
        times = int(period.start.timestamp()) + 3600 * np.arange(len(hours), dtype=np.int64)
        tensor = SeriesTensor(period.key, ids, ("flow",), "UTC", readings, flags, times)
        graph: Graph = random_graph(size, seed=1, share=5 / size)
        history.append(PeriodData(period, NodeSet(period.key, ids, added, births=births), tensor, graph))
    return history


def live(learner: Learner, history: list[PeriodData], compute: Compute) -> Life:
    states: Life = []
    for data in history:
        states.append(learner.learn(data, states[-1] if states else None, compute=compute))
    return states


@pytest.fixture(params=KINDS)
def learner(request: pytest.FixtureRequest, make_learner: Callable[..., Learner]) -> Learner:
    made: Learner = make_learner("eac", **KINDS[request.param])
    return made


def test_two_trainings_give_the_same_bits(learner: Learner, network: list[PeriodData]) -> None:
    one, other = (live(learner, network, CUDA) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        assert all(same_weights(first[part], second[part]) for part in first)


def test_losses_are_those_of_the_cpu(learner: Learner, network: list[PeriodData]) -> None:
    there, here = (live(learner, network, compute) for compute in (CUDA, CPU))
    for one, other in zip(there, here, strict=True):
        for name in ("train_loss", "validation_error"):
            assert one["backbone"].facts[name] == pytest.approx(other["backbone"].facts[name], rel=2e-3)


def test_scores_of_one_model_are_the_same_on_both(learner: Learner, network: list[PeriodData]) -> None:
    parts = live(learner, network, CPU)[-1]
    history = {data.period.key: data for data in network}
    there, here = (evaluate_seed(learner, parts, history, compute=compute).scores for compute in (CUDA, CPU))
    assert there.drop("value").equals(here.drop("value"))
    assert there["value"].to_numpy() == pytest.approx(here["value"].to_numpy(), rel=1e-4, abs=1e-5, nan_ok=True)


def test_cost_names_the_device_and_its_peak(learner: Learner, network: list[PeriodData]) -> None:
    cost = live(learner, network[:1], CUDA)[0]["backbone"].cost
    assert cost["device"].startswith("cuda")
    assert 0 < cost["peak_bytes"] <= learner.need(network[0]).plan(1 << 40, threads=1, gpu=True).bytes * 4
    assert cost["notes"] == []


def test_what_is_stored_lies_on_no_device(learner: Learner, network: list[PeriodData]) -> None:
    parts = live(learner, network[:1], CUDA)[0]
    assert all(tensor.device.type == "cpu" for part in parts.values() for tensor in part.tensors.values())


def test_too_little_memory_is_one_sentence_or_the_cpu(learner: Learner, network: list[PeriodData]) -> None:
    small = 1e-6
    with pytest.raises(InputError, match=r"needs about .* GiB and cuda"):
        learner.learn(network[0], None, compute=Compute(device="cuda", memory_gib=small))
    missing = Compute(device=f"cuda:{torch.cuda.device_count()}", fallback="cpu")
    cost = learner.learn(network[0], None, compute=missing)["backbone"].cost
    assert cost["device"] == "cpu" and "fell back to the CPU" in cost["notes"][0]


def test_a_device_that_runs_full_is_one_sentence(network: list[PeriodData]) -> None:
    with pytest.raises(InputError, match="ran out of memory"), CUDA.guard(0, "small/model of 2024"):
        free, _ = torch.cuda.mem_get_info()
        torch.empty(2 * free, dtype=torch.uint8, device="cuda")


def test_settings_of_torch_are_put_back(network: list[PeriodData]) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with CUDA.guard(0, "nothing"):
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before
