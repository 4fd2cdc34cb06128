"""Every later period trains an adapter of its own, and of the rest what the option names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.lora import LoRA
from st_pipeline.strategies import strategies
from st_pipeline.training.checkpoint import CHECKPOINTS, Checkpoint
from st_pipeline.training.forecasts import evaluating
from st_pipeline.training.learner import Learner
from st_pipeline.training.trained import Trained
from st_pipeline.types import NodeSet, Period, SeriesShape

SHAPE = SeriesShape(window=12, horizon=12, channels=1, num_nodes=2, steps_per_day=24)
PLACES = ["weights", "hidden"]
Parts = dict[str, Checkpoint]


@pytest.fixture
def history(make_stream, make_history) -> list[PeriodData]:
    return list(make_history(make_stream()).values())


@pytest.fixture
def live(make_learner, history, compute) -> Callable[..., tuple[Learner, list[Parts]]]:
    """A learner, and the checkpoints of its model's life."""

    def make(*, lora: dict[str, Any], strategy: dict[str, Any] | None = None, **model: Any) -> Any:
        learner = make_learner({"name": "lora", **(strategy or {})}, lora={"rank": 2, **lora}, **model)
        lives: list[Parts] = []
        for earlier, data in zip([None, *history], history, strict=False):
            lives.append(learner.learn(data, lives[-1] if lives else None, earlier=earlier, compute=compute))
        return learner, lives

    return make


def period(index: int) -> Period:
    return Period(str(index), index, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("place", "size"), [("hidden", 2 * 64 * 3), ("weights", 3 * 328)])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_period_trains_its_own_adapter_and_what_the_option_names(place: Any, size: int, freeze: bool) -> None:
    forecaster: Forecaster = LoRA(backbones.build("stgnn", shape=SHAPE), rank=3, place=place)
    strategy = strategies.build({"name": "lora", "freeze_backbone": freeze})
    for index in range(4):
        forecaster = strategy.prepare(forecaster, period(index), NodeSet.of("ab"))
        assert len(forecaster.parts()["lora"]) == index
        assert count_parameters(forecaster.parts()["lora"]) == index * size
        backbone = 3308 if index == 0 or not freeze else 0
        assert count_parameters(forecaster, trainable=True) == backbone + (size if index else 0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("freeze", [True, False])
def test_training_changes_the_newest_adapter_and_the_prompts_but_no_older_one(live, place: str, freeze: bool) -> None:
    training = {"epochs": 2, "batch": 64, "weight_decay": 0.5}  # would move whatever the optimiser holds
    _, lives = live(lora={"place": place}, strategy={"freeze_backbone": freeze}, training=training)
    first, second, third = (parts["backbone"].under("weights") for parts in lives)
    for name, value in first.items():
        assert torch.equal(value, second[name]) == torch.equal(second[name], third[name]) == freeze, name
    none, one, two = (parts["lora"].under("weights") for parts in lives)
    assert not none
    assert {name.split(".")[1] for name in one} == {"0"}
    assert {name.split(".")[1] for name in two} == {"0", "1"}
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert all(value.any() for value in two.values()), "every adapter has learned"
    bases = [parts["prompt_pool"].under("weights")["basis"] for parts in lives]
    assert not any(torch.isclose(bases[0], later).all() for later in bases[1:])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("prompts", [{"rank": 2}, None], ids=["prompted", "bare"])
def test_a_restored_model_of_three_periods_forecasts_bit_for_bit_as_the_trained_one(
    live, history, monkeypatch, place: str, prompts: Any
) -> None:
    trained, checkpoints = [], Trained.checkpoints

    def keep(self: Trained, *rest: Any) -> Parts:
        trained.append(self)
        return checkpoints(self, *rest)

    monkeypatch.setattr(Trained, "checkpoints", keep)
    learner, lives = live(lora={"place": place}, prompt_pool=prompts)
    stored = {name: CHECKPOINTS.load(CHECKPOINTS.dump({1: part}))[1] for name, part in lives[-1].items()}
    assert tuple(stored) == learner.model.parts
    own, restored = trained[-1].forecaster, learner.restore(stored).forecaster
    part = learner.arrays(history[-1]).part("test", trained[-1].scaler)
    window = part.windows.inputs(part.starts)
    with evaluating(own), evaluating(restored):
        assert torch.equal(own(window, history[-1].graph), restored(window, history[-1].graph))
    assert len(restored.parts()["lora"]) == 2


@pytest.mark.parametrize("strategy", ["online", "pretrain", "retrain", "eac"])
def test_without_its_strategy_a_model_has_no_adapters(make_learner, history, compute, strategy: str) -> None:
    learner = make_learner(strategy, lora={"rank": 2})
    parts = None
    for data in history[:2]:
        parts = learner.learn(data, parts, compute=compute)
    assert not parts["lora"].tensors


def test_a_stored_adapter_of_another_rank_is_refused_in_one_sentence(live, make_learner) -> None:
    _, lives = live(lora={})
    with pytest.raises(InputError, match="small/model: the stored weights do not fit the model") as caught:
        make_learner("lora", lora={"rank": 3}).restore(lives[-1])
    assert "\n" not in str(caught.value)


def test_a_model_without_adapters_is_refused_with_the_line_to_add() -> None:
    with pytest.raises(InputError, match=r"strategy 'lora' trains adapters.*add `lora: \{rank: 6\}` to it"):
        strategies.build("lora").prepare(backbones.build("stgnn", shape=SHAPE), period(0), NodeSet.of("ab"))


@pytest.mark.parametrize(("option", "value"), [("freeze_backbone", "yes"), ("freeze_backbone", 1), ("rank", 6)])
def test_an_option_it_does_not_have_is_refused(option: str, value: object) -> None:
    with pytest.raises(InputError, match=option):
        strategies.build({"name": "lora", option: value})
