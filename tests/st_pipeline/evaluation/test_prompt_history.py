"""Prompts over periods: the rows are those of the analysis on the model's own windows, whatever else there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.errors import InputError
from st_pipeline.evaluation import prompt_history as module
from st_pipeline.evaluation.prompt_analysis import SCHEMA, analyse
from st_pipeline.evaluation.prompt_history import POOL, embedded_windows, prompt_history
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.training.learner import Learner

Periods = list[tuple[dict[str, BySeed], PeriodData]]
CALENDAR = {"backbone": {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2}, "seasonal": ["1d"]}


@pytest.fixture(scope="module")
def live(make_learner, make_history, compute):
    """`live(**model)`: the learner of the first seed, and part -> seed -> checkpoint with the data of each period."""

    def make(strategy: Any = "eac", *, periods: int = 3, **options: Any) -> tuple[Learner, Periods]:
        learner = make_learner(strategy, **options)
        found: Periods = []
        for data in list(make_history(learner.stream).values())[:periods]:
            parts: dict[str, dict[int, Checkpoint]] = {}
            for seed in learner.model.runs:
                last = {part: by_seed[seed] for part, by_seed in found[-1][0].items()} if found else None
                earlier = found[-1][1] if found else None
                own = replace(learner, seed=seed).learn(data, last, earlier=earlier, compute=compute)
                for part, one in own.items():
                    parts.setdefault(part, {})[seed] = one
            found.append((parts, data))
        return learner, found

    return make


@pytest.fixture(scope="module")
def seeds(live):
    return live(seeds=[2, 1])


def test_a_row_for_every_period_and_seed(seeds) -> None:
    learner, periods = seeds
    found = prompt_history(learner.stream, learner.model, iter(periods))
    keys = [data.period.key for _, data in periods]
    assert found.rows.schema == pl.Schema(SCHEMA)
    assert found.rows.select("period", "seed").rows() == [(key, seed) for key in keys for seed in (2, 1)]
    assert not found.rows.null_count().sum_horizontal().item()
    assert found.rows["nodes"].to_list() == [len(data.nodes) for _, data in periods for _ in range(2)]


def test_rows_are_those_of_the_analysis_on_the_models_own_windows(seeds) -> None:
    learner, periods = seeds
    expected = []
    for seed in learner.model.runs:
        own = replace(learner, seed=seed)
        inputs = {}
        for parts, data in periods:
            trained = own.restore({part: by_seed[seed] for part, by_seed in parts.items()})
            part = own.arrays(data).part("train", trained.scaler)
            places = torch.linspace(0, len(part.starts) - 1, min(256, len(part.starts))).round().long()
            values = part.windows.inputs(part.starts[places]).values  # (S, T, N, 1): the backbone only flattens it
            inputs[data.period.key] = values.permute(0, 2, 3, 1).flatten(2)
        expected.append(analyse({data.period.key: parts[POOL][seed] for parts, data in periods}, inputs))
    found = prompt_history(learner.stream, learner.model, periods).rows
    assert found.equals(pl.concat(expected).sort("period", maintain_order=True))


def test_shares_epochs_and_advice_are_those_of_the_first_seed(seeds) -> None:
    learner, periods = seeds
    found = prompt_history(learner.stream, learner.model, periods)
    for parts, data in periods:
        facts = parts[POOL][2].facts
        assert found.epochs[data.period.key] == facts["watched"]["deviation"]
        assert found.shares[data.period.key][-1] == pytest.approx(1)
    assert found.advice is not None
    newest = found.rows.filter((pl.col("period") == periods[-1][1].period.key) & (pl.col("seed") == 2))
    assert found.advice.rank == newest["advised_rank"].item()
    nodes = [len(data.nodes) for _, data in periods]
    growth = (nodes[-1] - nodes[0]) / 2
    assert found.advice.projected[0].nodes == nodes[-1] + growth
    assert found.advice.sentence.endswith(".")


@pytest.mark.parametrize(
    "options",
    [{"protocol": "paper"}, {**CALENDAR}, {"prompt_pool": {"rank": "full"}}, {"lora": {"rank": 2}}, {"relearner": {}}],
    ids=["paper", "calendar", "full", "lora", "relearner"],
)
def test_any_prompted_model_is_analysed(live, options) -> None:
    learner, periods = live("online", periods=1, **options)
    found = prompt_history(learner.stream, learner.model, periods)
    assert found.rows.select(pl.col("deviation_before", "deviation_after") > 0).to_numpy().all()
    measured = found.rows["deviation_after"] - found.rows["deviation_before"]
    assert measured.to_numpy() == pytest.approx((found.rows["closed_form"] + found.rows["gap"]).to_numpy(), rel=1e-6)


def test_inputs_are_embedded_without_prompts(live) -> None:
    learner, [(parts, data)] = live(periods=1)
    own = {part: by_seed[1] for part, by_seed in parts.items()}
    before = embedded_windows(learner, own, data)
    loud = {**own[POOL].tensors, "weights.nodes.rows": own[POOL].tensors["weights.nodes.rows"] + 5}
    assert torch.equal(embedded_windows(learner, {**own, POOL: replace(own[POOL], tensors=loud)}, data), before)


@pytest.mark.parametrize(("most", "numbers", "count"), [(7, 1 << 24, 7), (256, 200, 6), (256, 1, 1)])
def test_windows_are_few_and_span_the_training_part(live, monkeypatch, most: int, numbers: int, count: int) -> None:
    learner, [(parts, data)] = live(periods=1)
    monkeypatch.setattr(module, "MOST_NUMBERS", numbers)
    own = {part: by_seed[1] for part, by_seed in parts.items()}
    found = embedded_windows(learner, own, data, most=most)
    assert found.shape == (count, len(data.nodes), 6)
    part = learner.arrays(data).part("train", learner.restore(own).scaler)
    ends = [
        part.windows.inputs(part.starts[place][None]).values[0, ..., 0].T for place in ([0, -1] if count > 1 else [0])
    ]
    assert all(torch.equal(found[place], end) for place, end in zip((0, -1), ends, strict=False))


def test_a_period_without_training_has_no_epochs(live) -> None:
    learner, periods = live("pretrain", periods=2)
    found = prompt_history(learner.stream, learner.model, periods)
    assert [len(values) for values in found.epochs.values()] == [2, 0]


def test_no_period_is_no_row(make_learner) -> None:
    learner = make_learner("eac")
    found = prompt_history(learner.stream, learner.model, [])
    assert found.rows.schema == pl.Schema(SCHEMA)
    assert (len(found.rows), found.advice) == (0, None)


def test_prompts_that_are_all_0_have_no_advice(live) -> None:
    learner, [(parts, data)] = live(periods=1)
    pool = parts[POOL][1]
    silent = replace(pool, tensors={name: torch.zeros_like(value) for name, value in pool.tensors.items()})
    found = prompt_history(learner.stream, learner.model, [({**parts, POOL: {1: silent}}, data)])
    assert found.advice is None
    assert found.shares == {data.period.key: []}


def test_a_model_of_other_sensors_is_refused(live) -> None:
    learner, periods = live(periods=2)
    with pytest.raises(InputError, match="small/model of 2024-01-22 was trained on other sensors than the period has"):
        prompt_history(learner.stream, learner.model, [(periods[0][0], periods[1][1])])


def test_a_model_without_prompts_is_refused(live) -> None:
    learner, [(parts, data)] = live("online", periods=1, prompt_pool=None)
    own = {part: by_seed[1] for part, by_seed in parts.items()}
    with pytest.raises(InputError, match="small/model of 2024-01-01 has no node prompts"):
        embedded_windows(learner, own, data)
