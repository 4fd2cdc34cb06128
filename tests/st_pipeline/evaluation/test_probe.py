"""The frozen model on a new period's validation part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING
from st_pipeline.evaluation.probe import probe
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.scoring import evaluate_model
from st_pipeline.training.checkpoint import BySeed
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner

FIRST, SECOND = "2024-01-01", "2024-01-22"
HALVES = {"train": 0.5, "validation": 0.25, "test": 0.25}


@pytest.fixture(scope="module")
def learner(make_learner: Callable[..., Learner]) -> Learner:
    return make_learner("online", stream={"split": HALVES})


def test_the_error_is_that_of_an_evaluation_of_the_same_steps(
    learner: Learner, history: dict[str, PeriodData], parts: dict[str, BySeed], compute: Compute
) -> None:
    data = history[SECOND]
    end = 3 * len(data.tensor.times) // 4
    tensor = data.tensor
    cut = replace(tensor, values=tensor.values[:end], flags=tensor.flags[:end], times=tensor.times[:end])
    thirds = {"train": 0.5, "validation": 1 / 6, "test": 1 / 3}  # the test part is what is probed of the whole
    stream = learner.stream.model_validate(learner.stream.model_dump() | {"split": thirds})
    model = learner.model
    told = evaluate_model(
        stream, model, parts, {FIRST: replace(data, tensor=cut, period=history[FIRST].period)}, compute=compute
    )
    row = told.scores.filter(metric="mae", horizon=PUBLISHED, cohort="all")
    found = probe(learner.stream, model, parts, data, compute=compute)
    assert found is not None
    assert found.error == pytest.approx(row["value"].item(), rel=1e-4)
    assert found.ratio == found.error / found.naive > 0


def test_a_part_without_a_reading_cannot_be_scored(
    learner: Learner, history: dict[str, PeriodData], parts: dict[str, BySeed], compute: Compute
) -> None:
    data = history[SECOND]
    flags = data.tensor.flags.copy()
    flags[len(flags) // 2 : 3 * len(flags) // 4] = MISSING
    silent = replace(data, tensor=replace(data.tensor, flags=flags))
    with np.errstate(all="ignore"):
        assert probe(learner.stream, learner.model, parts, silent, compute=compute) is None


def test_weights_of_another_seed_are_not_the_models(
    learner: Learner, history: dict[str, PeriodData], parts: dict[str, BySeed], compute: Compute
) -> None:
    other = {part: {seed + 1: checkpoint for seed, checkpoint in found.items()} for part, found in parts.items()}
    assert probe(learner.stream, learner.model, other, history[SECOND], compute=compute) is None
