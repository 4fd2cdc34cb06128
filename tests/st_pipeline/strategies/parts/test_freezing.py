"""What goes on learning of a part whose shared weights are frozen."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.lora import LoRA
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies import strategies
from st_pipeline.strategies.parts.freezing import freeze_shared, train_new_rows
from st_pipeline.types import NodeSet, Period, SeriesShape

SHAPE = SeriesShape(window=12, horizon=12, channels=1, num_nodes=3, steps_per_day=24)


def period(index: int) -> Period:
    return Period(str(index), index, None, None)  # type: ignore[arg-type]


def trained(part: torch.nn.Module) -> set[str]:
    return {name for name, parameter in part.named_parameters() if parameter.requires_grad and parameter.numel()}


@pytest.mark.parametrize("backbone", ["stid", "agcrn"])
@pytest.mark.parametrize("strategy", ["eac", "lora", "prompt_tuning"])
def test_a_frozen_backbone_learns_the_rows_of_new_sensors(backbone: str, strategy: str) -> None:
    inner: Forecaster = backbones.build(backbone, shape=SHAPE)
    inner = LoRA(inner, rank=2, place="weights") if strategy == "lora" else inner
    model: Forecaster = PromptPool(inner, rank=2)
    chosen = strategies.build(strategy)
    model = chosen.prepare(model, period(0), NodeSet.of("abc"))
    assert trained(model) == {name for name, parameter in model.named_parameters() if parameter.numel()}
    model = chosen.prepare(model, period(1), NodeSet.of("abcd"))
    kinds = {name.rsplit(".", 1)[1] for name in trained(model.parts()["backbone"])}
    assert kinds == ({"retained", "appended"} if strategy == "prompt_tuning" else {"appended"})


@pytest.mark.parametrize("freeze", [freeze_shared, train_new_rows])
def test_records_that_are_no_parameters_stay_without_gradients(freeze) -> None:
    model: Forecaster = backbones.build("stnorm", shape=SHAPE)
    model.requires_grad_(False)
    freeze(model)
    assert not any(buffer.requires_grad for buffer in model.buffers())
    assert all(name.endswith(("retained", "appended")) for name in trained(model))
