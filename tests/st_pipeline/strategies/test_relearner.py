"""What every strategy trains of a ReLearner: in the first period all of it, later what its backbone's fate suggests."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.lora import LoRA
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import ReLearner
from st_pipeline.strategies import strategies
from st_pipeline.training.checkpoint import CHECKPOINTS
from st_pipeline.types import NodeSet, Period, SeriesShape

SHAPE = SeriesShape(window=12, horizon=12, channels=1, num_nodes=3, steps_per_day=24)
NEW = {f"{table}.appended" for table in ("smoothing.alpha", "smoothing.beta", "smoothing.nodes", "inverse.nodes")}
ROWS = NEW | {name.replace("appended", "retained") for name in NEW}
LAST = {"output.last.weight", "output.last.bias"}
LATER: dict[str, tuple[dict[str, Any], set[str] | None]] = {  # trained after the first period; None: everything
    "eac": ({"name": "eac"}, ROWS),
    "eac, old rows kept": ({"name": "eac", "train_old_rows": False}, NEW),
    "eac, unfrozen": ({"name": "eac", "freeze": "nothing"}, None),
    "eac, universality": ({"name": "eac", "freeze": "all_but_temporal"}, ROWS),
    "prompt_tuning": ({"name": "prompt_tuning"}, ROWS | LAST),
    "lora": ({"name": "lora"}, ROWS | LAST),
    "lora, unfrozen": ({"name": "lora", "freeze_backbone": False}, None),
    "online": ({"name": "online"}, None),
    "retrain": ({"name": "retrain"}, None),
}
SECTIONS = {"lora": {"lora": {"rank": 2}}}


def period(index: int) -> Period:
    return Period(str(index), index, None, None)  # type: ignore[arg-type]


@pytest.fixture
def history(make_stream, make_history) -> list[PeriodData]:
    return list(make_history(make_stream()).values())


@pytest.mark.parametrize("reading", LATER)
def test_later_periods_train_the_rows_of_sensors_and_what_is_not_frozen(reading: str) -> None:
    spec, later = LATER[reading]
    inner: Forecaster = backbones.build("stgnn", shape=SHAPE)
    inner = LoRA(inner, rank=2, place="weights") if spec["name"] == "lora" else inner
    model: Forecaster = ReLearner(PromptPool(inner, rank=2), cores=2)
    strategy = strategies.build(spec)
    for index, names in enumerate(("abc", "abcd")):
        model = strategy.prepare(model, period(index), NodeSet.of(names))
        own = dict(model.parts()["relearner"].named_parameters())
        trained = {name for name, parameter in own.items() if parameter.requires_grad}
        assert trained == (set(own) if index == 0 or later is None else later)


def test_a_second_core_is_frozen_with_the_first_but_for_rows_of_sensors() -> None:
    model: Forecaster = ReLearner(PromptPool(backbones.build("agcrn", shape=SHAPE), rank=2), share_core=False)
    strategy = strategies.build("eac")
    for index, names in enumerate(("abc", "abcd")):
        model = strategy.prepare(model, period(index), NodeSet.of(names))
    trained = {name for name, part in model.parts()["relearner"].named_parameters() if part.requires_grad}
    tables = node_tables(model.parts()["relearner"])
    assert trained == {f"{table}.{kind}" for table in tables for kind in ("retained", "appended")}
    assert any(table.startswith("core.") for table in tables)


def test_data_about_sensors_are_not_made_trainable() -> None:
    model: Forecaster = ReLearner(PromptPool(backbones.build("tfmoe", shape=SHAPE), rank=2), share_core=False)
    for name in ("eac", "prompt_tuning"):
        strategies.build(name).prepare(model, period(1), NodeSet.of("abc"))
        assert not any(value.requires_grad for value in model.buffers())


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_lives_through_growth_shrinkage_and_return(make_learner, history, compute, name: str) -> None:
    options = {"hidden": 8, "rank": 3, "cores": 2, "label_encoder": {}}
    learner = make_learner(name, relearner=options, **SECTIONS.get(name, {}))
    lives: list[Any] = []
    for earlier, data in zip([None, *history], history, strict=False):
        lives.append(learner.learn(data, lives[-1] if lives else None, earlier=earlier, compute=compute))
        assert tuple(lives[-1]) == learner.model.parts
        tensors = lives[-1]["relearner"].tensors
        assert tensors["weights.smoothing.nodes.rows"].shape == (len(data.nodes), 3)
        assert all(value.isfinite().all() for part in lives[-1].values() for value in part.tensors.values())
    assert lives[1]["relearner"].facts["cold"]["smoothing.beta"] == ([] if name == "retrain" else ["b"])
    stored = {part: CHECKPOINTS.load(CHECKPOINTS.dump({1: one}))[1] for part, one in lives[-1].items()}
    restored = learner.restore(stored).forecaster.parts()["relearner"].state_dict()
    assert all(torch.equal(value, restored[key]) for key, value in lives[-1]["relearner"].under("weights").items())


def test_a_pretrained_relearner_keeps_the_rows_of_a_sensor_that_was_away(make_learner, history, compute) -> None:
    learner, parts, rows = make_learner("pretrain", relearner={"hidden": 8}), None, {}
    for data in history:
        parts = learner.learn(data, parts, compute=compute)
        found = dict(zip(data.nodes.ids, parts["relearner"].tensors["weights.smoothing.beta.rows"], strict=True))
        assert all(torch.equal(rows[name], found[name]) for name in set(rows) & set(found))
        rows = found | rows
    assert {"b", "h"} <= set(rows)
