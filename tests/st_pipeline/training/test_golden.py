"""What makes training fast changes no number: losses and scores recorded before the engine was made fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from st_pipeline.evaluation.scoring import evaluate_model

CALENDAR = {"backbone": {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2}, "seasonal": ["1d", "7d"]}
MODELS: dict[str, dict[str, Any]] = {
    "eac": {"strategy": "eac"},
    "calendar": {"strategy": "eac", **CALENDAR},
    "short_lag": {"strategy": "online", "backbone": CALENDAR["backbone"], "seasonal": ["4h", "1d"]},
    "bare": {"strategy": "online", "prompt_pool": None},
    "sqrt": {"strategy": "online", "scaling": {"transform": "sqrt", "per": "sensor"}},
    "paper": {"strategy": "eac", "protocol": "paper"},
}
RECORDED = json.loads(Path(__file__).with_name("golden.json").read_text())
EVERY = 25  # of the scores, that is recorded
TOLERANCE = 1e-5  # relative: the same sums in another order, over every step of two trainings


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("piece", [None, 64], ids=["whole", "pieces"])
def test_losses_and_scores_are_those_recorded(
    name: str, piece: int | None, make_learner, make_history, compute, monkeypatch
) -> None:
    if piece:
        monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", piece)
    learner = make_learner(**MODELS[name])
    history = dict(list(make_history(learner.stream).items())[:2])
    parts, found = None, {}
    for key, data in history.items():
        parts = learner.learn(data, parts, compute=compute)
        facts = parts["backbone"].facts
        found |= {f"{key} {kind}": facts[kind] for kind in ("train_loss", "validation_error")}
    by_seed = {part: {learner.seed: checkpoint} for part, checkpoint in parts.items()}
    scores = evaluate_model(learner.stream, learner.model, by_seed, history, compute=compute).scores
    found["scores"] = scores["value"].to_list()[::EVERY]
    assert found.keys() == RECORDED[name].keys()
    for kind, values in RECORDED[name].items():
        assert found[kind] == pytest.approx(values, rel=TOLERANCE, abs=1e-5), kind
