"""Expand and Compress: each reading of the paper trains what it says, and not a bit more."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from st_pipeline.data.protocols import SOUND
from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies import strategies
from st_pipeline.training.fit import fit
from st_pipeline.training.settings import Settings
from st_pipeline.types import NodeSet, Period, SeriesShape

READINGS = [
    {"freeze": freeze, "train_old_rows": old, "train_basis": basis}
    for freeze, old, basis in itertools.product(["backbone", "nothing"], [True, False], ["always", "first"])
]
PEMS = [(655, 7310), (715, 4362), (786, 4788), (822, 5004), (834, 5076), (850, 5172), (871, 5298)]


def groups(forecaster: Forecaster) -> dict[str, list[torch.Tensor]]:
    """Copies of all parameters by what the readings call them."""
    prompts = forecaster.parts()["prompt_pool"]
    found = {
        "backbone": list(forecaster.parts()["backbone"].parameters()),
        "old rows": [prompts.nodes.retained],
        "new rows": [prompts.nodes.appended],
        "basis": [prompts.basis],
    }
    return {name: [part.detach().clone() for part in parts] for name, parts in found.items()}


def period(index: int) -> Period:
    return Period(str(index), index, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: "-".join(map(str, reading.values())))
def test_training_changes_what_the_reading_names_and_nothing_else(
    make_learner, make_history, compute, reading: dict[str, Any]
) -> None:
    learner = make_learner({"name": "eac", **reading}, training={"epochs": 2, "weight_decay": 0.5})
    first, second, _ = make_history(learner.stream).values()
    trained = learner.restore(learner.learn(first, None, compute=compute))
    strategy = strategies.build({"name": "eac", **reading})
    forecaster = strategy.prepare(trained.forecaster, second.period, second.nodes)
    arrays = learner.arrays(second)
    scaler = arrays.fit_scaler(learner.model.scaling)
    before = groups(forecaster)
    fit(
        forecaster,
        train=arrays.part("train", scaler),
        validation=arrays.part("validation", scaler),
        graph=second.graph,
        strategy=strategy,
        selection=strategy.select(second.period, second.nodes),
        settings=Settings.of(SOUND, learner.model.training),
        generator=torch.Generator().manual_seed(0),
    )
    after = groups(forecaster)
    expected = {
        "backbone": reading["freeze"] == "nothing",
        "old rows": reading["train_old_rows"],
        "new rows": True,
        "basis": reading["train_basis"] == "always",
    }
    for name, changes in expected.items():
        for old, new in zip(before[name], after[name], strict=True):
            assert not torch.isclose(old, new, rtol=0, atol=0).all() if changes else torch.equal(old, new), name
    trainable = sum(part.numel() for name, changes in expected.items() if changes for part in before[name])
    assert count_parameters(forecaster, trainable=True) == trainable


@pytest.mark.parametrize("rank", [2, 6])
def test_trainable_parameters_are_the_published_ones(rank: int) -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=655, steps_per_day=288)
    forecaster = PromptPool(backbones.build("stgnn", shape=shape), rank=rank)
    strategy = strategies.build("eac")
    for index, (nodes, published) in enumerate(PEMS):
        prepared = strategy.prepare(forecaster, period(index), NodeSet.of(map(str, range(nodes))))
        trainable = count_parameters(prepared, trainable=True)
        assert trainable == rank * (nodes + 12) + (0 if index else 3308)
        assert rank != 6 or trainable == published


def test_a_frozen_model_thaws_when_it_is_given_to_another_strategy(make_learner) -> None:
    forecaster = make_learner("eac").build(3)
    for index in range(2):
        forecaster = strategies.build("eac").prepare(forecaster, period(index), NodeSet.of("abc"))
    assert not all(parameter.requires_grad for parameter in forecaster.parameters())
    thawed = strategies.build("online").prepare(forecaster, period(2), NodeSet.of("abc"))
    assert all(parameter.requires_grad for parameter in thawed.parameters())


def test_a_model_without_prompts_is_refused_with_the_line_to_add() -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=2, steps_per_day=24)
    with pytest.raises(InputError, match=r"tunes prompts.*prompt_pool: \{rank: 6\}"):
        strategies.build("eac").prepare(backbones.build("stgnn", shape=shape), period(0), NodeSet.of("ab"))


@pytest.mark.parametrize(
    ("option", "value"), [("freeze", "head"), ("train_basis", "never"), ("train_old_rows", "maybe"), ("frozen", True)]
)
def test_a_reading_nobody_has_is_refused(option: str, value: object) -> None:
    with pytest.raises(InputError, match=option):
        strategies.build({"name": "eac", option: value})
