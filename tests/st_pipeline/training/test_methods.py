"""Every method that is shipped builds, learns period by period, and forecasts after a restart as it did before."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from st_pipeline.model_config import methods
from st_pipeline.training.checkpoint import CHECKPOINTS
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.learner import Learner, Trained

FEW = {"epochs": 2, "batch": 64, "stride": 4}


@pytest.fixture
def make_method(make_stream):
    """`make_method(name)`: the method with two epochs, trained on every fourth window."""

    def make(name: str) -> Learner:
        (model,) = make_stream(compare={"methods": [name], "seeds": [3], "training": FEW}).compared
        return Learner(make_stream(), model, 3)

    return make


@pytest.mark.parametrize("name", methods())
def test_a_method_lives_and_is_restored_bit_for_bit(name: str, make_method, make_history, compute, monkeypatch) -> None:
    learner = make_method(name)
    alive: list[Trained] = []
    update = Learner._update

    def kept(self: Learner, *given: Any) -> Trained:
        alive.append(update(self, *given))
        return alive[-1]

    monkeypatch.setattr(Learner, "_update", kept)
    before, earlier = None, None
    for data in make_history(learner.stream).values():
        parts = learner.learn(data, before, earlier=earlier, compute=compute)
        assert tuple(parts) == learner.model.parts
        stored = {part: CHECKPOINTS.load(CHECKPOINTS.dump({3: one}))[3] for part, one in parts.items()}
        lasting = learner.restore(stored)
        before, earlier = stored, data
        facts = stored["backbone"].facts
        assert len(facts["train_loss"]) == (2 if facts["trainable"] else 0)
        arrays = learner.arrays(data)
        seen = [
            torch.cat([forecast for forecast, _, _ in forecasts(trained.forecaster, part, data.graph)])
            for trained in (alive[-1], lasting)
            for part in [arrays.part("test", trained.scaler)]
        ]
        assert torch.equal(*seen)
        assert seen[0].isfinite().all()
