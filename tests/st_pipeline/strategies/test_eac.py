"""Expand and Compress: each reading of the paper trains what it says, and not a bit more."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from st_pipeline.data.protocols import SOUND
from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Selection
from st_pipeline.strategies.eac import ExpandAndCompress
from st_pipeline.training.fit import fit
from st_pipeline.training.settings import Settings
from st_pipeline.types import NodeSet, Period, SeriesShape

READINGS = [
    {"freeze": freeze, "train_old_rows": old, "train_basis": basis}
    for freeze, old, basis in itertools.product(
        ["backbone", "nothing", "all_but_temporal"], [True, False], ["always", "first"]
    )
]
PEMS = [(655, 7310), (715, 4362), (786, 4788), (822, 5004), (834, 5076), (850, 5172), (871, 5298)]


def groups(forecaster: Forecaster) -> dict[str, list[torch.Tensor]]:
    """Copies of all parameters by what the readings call them."""
    prompts = forecaster.parts()["prompt_pool"]
    backbone = forecaster.parts()["backbone"]
    temporal = list(backbone.temporal.parameters())
    found = {
        "temporal": temporal,
        "backbone": [part for part in backbone.parameters() if all(part is not other for other in temporal)],
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
        "temporal": reading["freeze"] in ("nothing", "all_but_temporal"),
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


@pytest.mark.parametrize(("temporal", "size"), [("convolution", 4), ("recurrence", 33_280), ("attention", 16_640)])
def test_what_the_universality_study_leaves_trainable_is_the_published_number(temporal: str, size: int) -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=655, steps_per_day=288)
    backbone = backbones.build({"name": "universal", "temporal": temporal}, shape=shape)
    forecaster = PromptPool(backbone, rank=12)
    strategy = strategies.build({"name": "eac", "freeze": "all_but_temporal"})
    for index, nodes in enumerate((655, 715)):
        forecaster = strategy.prepare(forecaster, period(index), NodeSet.of(map(str, range(nodes))))
    assert count_parameters(forecaster, trainable=True) == size + 715 * 12 + 144
    assert size != 33_280 or count_parameters(forecaster, trainable=True) == 42_004  # in the log of 2012


def test_a_backbone_without_a_temporal_module_is_refused_before_it_is_trained(monkeypatch) -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=2, steps_per_day=24)
    monkeypatch.delattr("st_pipeline.models.backbones.stgnn.STGNN.temporal")
    forecaster = PromptPool(backbones.build("stgnn", shape=shape), rank=2)
    strategy = strategies.build({"name": "eac", "freeze": "all_but_temporal"})
    with pytest.raises(InputError, match=r"freeze: all_but_temporal spares .*nothing called `temporal`; take backbone"):
        strategy.prepare(forecaster, period(0), NodeSet.of("ab"))


# The growth-ratio control


@pytest.mark.parametrize(("share", "count"), [(0.6, 3), (0.5, 2), (0.4, 2), (0.01, 2), (0.99, 5)])
def test_the_first_period_trains_on_a_share_of_its_sensors(
    make_learner, make_history, make_arrival, share: float, count: int
) -> None:
    learner = make_learner({"name": "eac", "first_nodes": share})
    first, second, _ = make_history(learner.stream).values()
    strategy = strategies.build(learner.model.strategy.spec())
    selection, again, other = (
        strategy.select(make_arrival(learner, first, seed=seed), first.nodes) for seed in (1, 1, 2)
    )
    rows = selection.rows.tolist()
    assert rows == sorted(set(rows)) == selection.nodes.nonzero().flatten().tolist()
    assert (len(rows), len(selection.nodes)) == (count, 5)
    assert rows == again.rows.tolist()
    assert count == 5 or rows != other.rows.tolist()
    assert strategy.select(make_arrival(learner, second, first), second.nodes) == Selection()


@pytest.mark.parametrize("share", [1, 1.0])
def test_all_sensors_are_no_selection(make_learner, make_history, make_arrival, share: float) -> None:
    learner = make_learner({"name": "eac", "first_nodes": share})
    first = next(iter(make_history(learner.stream).values()))
    strategy = strategies.build(learner.model.strategy.spec())
    assert strategy.select(make_arrival(learner, first), first.nodes) == Selection()


def test_nothing_is_learned_from_the_sensors_that_are_left_out(
    make_learner, make_history, compute, monkeypatch
) -> None:
    drawn, select = [], ExpandAndCompress.select
    monkeypatch.setattr(ExpandAndCompress, "select", lambda *of: drawn.append(select(*of)) or drawn[-1])
    learner = make_learner({"name": "eac", "first_nodes": 0.6})
    first = next(iter(make_history(learner.stream).values()))
    one = learner.learn(first, None, compute=compute)
    tensors = []
    for changed in (~drawn[0].nodes, drawn[0].nodes):
        values = first.tensor.values.copy()
        values[:, changed] = values[::-1][:, changed]
        tensors.append(replace(first.tensor, values=values))
    without, within = (learner.learn(replace(first, tensor=tensor), None, compute=compute) for tensor in tensors)
    for name in ("backbone", "prompt_pool"):
        learned, same, other = (parts[name].under("weights") for parts in (one, without, within))
        assert all(torch.equal(value, same[key]) for key, value in learned.items())
        assert not all(torch.equal(value, other[key]) for key, value in learned.items())
    for kind in ("train_loss", "validation_error"):
        assert one["backbone"].facts[kind] == without["backbone"].facts[kind] != within["backbone"].facts[kind]


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01])
def test_a_share_of_sensors_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=rf"first_nodes is {share:g}; expected a share above 0, at most 1"):
        strategies.build({"name": "eac", "first_nodes": share})


def test_rows_that_no_period_would_train_are_refused() -> None:
    with pytest.raises(InputError, match="train_old_rows: false would never train them; change one of the two"):
        strategies.build({"name": "eac", "first_nodes": 0.5, "train_old_rows": False})
    strategies.build({"name": "eac", "first_nodes": 1.0, "train_old_rows": False})


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
    ("option", "value"),
    [
        ("freeze", "head"),
        ("train_basis", "never"),
        ("train_old_rows", "maybe"),
        ("first_nodes", "few"),
        ("frozen", True),
    ],
)
def test_a_reading_nobody_has_is_refused(option: str, value: object) -> None:
    with pytest.raises(InputError, match=option):
        strategies.build({"name": "eac", option: value})
