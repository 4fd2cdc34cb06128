"""Tuning against retraining: the later periods alone, the right words for every sign, and nothing where none is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError
from st_pipeline.evaluation.cost_ledger import ledger
from st_pipeline.evaluation.counterfactual import Counterfactual, counterfactual, retrained_model

KEYS = ("2011", "2012", "2013")
MODELS = [
    {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"},
    {"name": "retrain", "backbone": "stgnn", "strategy": "retrain"},
]
Make = Callable[..., Any]


def said(seconds: float, error: float, low: float | None = None, high: float | None = None, **more: Any) -> str:
    """The sentence of a champion that took these seconds where retraining took 10."""
    return Counterfactual("eac", "retrain", more.pop("periods", 2), seconds, 10.0, error, low, high, **more).sentence


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2.9, "saved 71 % of the time"),
        (0.0, "saved 100 % of the time"),
        (13.0, "cost 30 % more time"),
        (10.04, "took the same time"),
        (28.0, "took 2.8 times the time"),
    ],
)
def test_time_is_saved_or_cost(seconds: float, words: str) -> None:
    assert f"(eac against retrain) {words} in the 2 periods after the first ({seconds:.3g} s instead of 10 s) at" in (
        said(seconds, 0.4)
    )


@pytest.mark.parametrize(
    ("error", "low", "high", "words"),
    [
        (0.4, 0.1, 0.7, "at a higher error: +0.4 % MAE (95 % interval +0.1 to +0.7 %)."),
        (-3.2, -4.0, -2.4, "at a lower error: -3.2 % MAE (95 % interval -4.0 to -2.4 %)."),
        (0.4, -0.3, 1.1, "with no clear difference in error: +0.4 % MAE (95 % interval -0.3 to +1.1 %)."),
        (-0.4, -1.1, 0.3, "with no clear difference in error: -0.4 % MAE (95 % interval -1.1 to +0.3 %)."),
        (0.4, None, None, "at +0.4 % MAE."),
        (-0.4, None, None, "at -0.4 % MAE."),
    ],
)
def test_an_error_is_higher_or_lower_only_where_the_interval_is(
    error: float, low: float | None, high: float | None, words: str
) -> None:
    assert said(2.9, error, low, high).endswith(words)


def test_one_period_and_long_times_read_well_and_other_differences_are_told() -> None:
    sentence = said(2.9, 0.4, periods=1, apart=("backbone", "scaling"))
    assert " in the period after the first (" in sentence
    assert sentence.endswith("at +0.4 % MAE. The two also differ in backbone, scaling.")
    assert "(1,234 s instead of 9,876 s)" in Counterfactual("a", "b", 2, 1234.4, 9876.1, 0.0).sentence


@pytest.fixture
def small(make_stream: Make) -> StreamConfig:
    config: StreamConfig = make_stream(models=MODELS)
    return config


@pytest.fixture
def losses(matrix_losses: Make) -> pl.DataFrame:
    """Retraining errs by 5, the tuned model by 10 in the first period and by 4 later; columns of `LOSSES`."""
    tuned = {(key, key): 10.0 if key == KEYS[0] else 4.0 for key in KEYS}
    frames = [matrix_losses("eac", tuned), matrix_losses("retrain", {(key, key): 5.0 for key in KEYS})]
    return pl.concat(frames).drop("trained_through")


def book(losses: pl.DataFrame, scores_of: Make, cost_document: Make, **taken: Any) -> pl.DataFrame:
    """A ledger of these losses in which a period takes the given seconds."""
    scores = scores_of(losses.with_columns(trained_through="period"))
    documents = {
        name: {key: cost_document(seconds, device=device) for key in losses["period"].unique()}
        for name, (seconds, device) in {"eac": (1.0, "cpu"), "retrain": (4.0, "cpu"), **taken}.items()
    }
    return ledger(documents, scores)


def test_the_first_period_is_left_out(small, losses, scores_of: Make, cost_document: Make) -> None:
    found = counterfactual(small, book(losses, scores_of, cost_document), retrained="retrain", losses=losses)
    assert found is not None
    assert (found.periods, found.seconds, found.retrained_seconds, found.saved) == (2, 2.0, 8.0, 75.0)
    assert found.error == pytest.approx(-20, abs=1)
    assert found.low is not None and found.high is not None
    assert found.low < found.error < found.high < 0
    assert found.apart == ("prompt pool",)


def test_without_losses_or_with_too_few_of_them_there_is_no_interval(
    small, losses, scores_of: Make, cost_document: Make
) -> None:
    rows = book(losses, scores_of, cost_document)
    for given in (None, losses.filter(pl.col("period") != KEYS[2])):
        found = counterfactual(small, rows, retrained="retrain", losses=given)
        assert found is not None and found.periods == 2 and found.low is None
        assert "interval" not in found.sentence


def test_nothing_to_compare_is_none(small, losses, scores_of: Make, cost_document: Make) -> None:
    first = losses.filter(pl.col("period") == KEYS[0])
    alone = losses.filter(pl.col("model") == "eac")
    assert counterfactual(small, book(first, scores_of, cost_document), retrained="retrain") is None
    assert counterfactual(small, book(alone, scores_of, cost_document), retrained="retrain") is None
    free = book(losses, scores_of, cost_document, retrain=(0.0, "cpu"))
    assert counterfactual(small, free, retrained="retrain") is None


def test_times_on_different_devices_are_not_compared(small, losses, scores_of: Make, cost_document: Make) -> None:
    rows = book(losses, scores_of, cost_document, eac=(1.0, "cuda"))
    assert counterfactual(small, rows, retrained="retrain", losses=losses) is None


def test_losses_of_other_readings_are_refused(small, losses, scores_of: Make, cost_document: Make) -> None:
    other = losses.with_columns(data=pl.when(pl.col("model") == "eac").then(pl.lit("x")).otherwise("data"))
    with pytest.raises(InputError, match="cannot be compared: data of period 2012"):
        counterfactual(small, book(losses, scores_of, cost_document), retrained="retrain", losses=other)


def test_the_retrained_model_most_like_the_champion_is_taken(make_stream: Make) -> None:
    prompted = {**MODELS[0], "name": "prompted", "strategy": "retrain"}
    paper = {**prompted, "name": "paper", "protocol": "paper"}
    config = make_stream(models=[*MODELS, prompted, paper], champion="eac")
    every = {model.name for model in config.models}
    assert retrained_model(config, every) == "prompted"
    assert retrained_model(config, every - {"prompted"}) == "retrain"
    assert retrained_model(config, {"eac", "paper"}) is None
    assert retrained_model(make_stream(models=[*MODELS], champion="retrain"), every) is None
    assert retrained_model(make_stream(models=[]), every) is None
    compared = make_stream(models=MODELS[:1], compare={"methods": ["retrain", "online"]})
    assert retrained_model(compared, {"eac", "retrain"}) == "retrain"
