"""The drill: its clean row is the evaluation's, faults are the same for all, and what breaks is reported as broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Generator, Tensor

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import PROTOCOLS, SOUND, PeriodArrays
from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.data_config import SplitConfig
from st_pipeline.errors import InputError
from st_pipeline.evaluation.drill import CLEAN, DRILL_SCHEMA, SUMMARY_SCHEMA, Bounds, drill_summary, run_drill
from st_pipeline.evaluation.metrics import METRICS
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.scenarios import SCENARIOS, Missing, Scenario
from st_pipeline.evaluation.scoring import evaluate_model, evaluate_naive
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.learner import Learner
from st_pipeline.types import Graph, NodeSet

FIRST, SECOND, THIRD = "2024-01-01", "2024-01-22", "2024-02-12"
WEEK = 168
SPLIT = {"train": 0.3, "validation": 0.2, "test": 0.5}  # faults reach the weekly forecast after a week of the test part
BySeed = dict[str, dict[int, Checkpoint]]


@dataclass(frozen=True, repr=False)
class Trained:
    """A model of one period, each of its seeds."""

    learner: Learner
    history: dict[str, PeriodData]
    parts: BySeed
    compute: Compute

    def drill(self, parts: BySeed | None = None, period: str = THIRD, **options: Any) -> pl.DataFrame:
        learner, data = self.learner, self.history[period]
        return run_drill(learner.stream, learner.model, parts or self.parts, data, compute=self.compute, **options)

    def spoilt(self, change: Callable[[Tensor], Tensor], seeds: Sequence[int] = ()) -> BySeed:
        """The checkpoints with other weights in the backbone's last layer, of some of the seeds."""
        found = {part: dict(of_seeds) for part, of_seeds in self.parts.items()}
        for seed in seeds or found["backbone"]:
            one = found["backbone"][seed]
            (name,) = (name for name in one.tensors if name.endswith("fc.bias"))
            found["backbone"][seed] = replace(one, tensors={**one.tensors, name: change(one.tensors[name])})
        return found


@pytest.fixture(scope="module")
def train(make_learner, make_history, compute) -> Callable[..., Trained]:
    """`train(**model)`: trained on the third period alone, so that it has never met a sensor of the others."""

    def make(**options: Any) -> Trained:
        learner = make_learner("eac", stream={"split": SPLIT}, **options)
        history = make_history(learner.stream)
        parts: BySeed = {}
        for seed in learner.model.runs:
            for part, one in replace(learner, seed=seed).learn(history[THIRD], None, compute=compute).items():
                parts.setdefault(part, {})[seed] = one
        return Trained(learner, history, parts, compute)

    return make


@pytest.fixture(scope="module")
def sound(train) -> Trained:
    """Two seeds, with seasonal inputs that look back before the test part."""
    return train(seeds=[5, 3], seasonal=["1d", "7d"])


@pytest.fixture(scope="module")
def paper(train) -> Trained:
    return train(protocol="paper")


@pytest.fixture(params=list(PROTOCOLS))
def trained(request, sound: Trained, paper: Trained) -> Trained:
    return {"sound": sound, "paper": paper}[request.param]


def published(scores: pl.DataFrame, **names: Any) -> float:
    """The published average of the error of all sensors."""
    chosen = {"metric": METRICS[0], "horizon": PUBLISHED, "cohort": "all", **names}
    return scores.row(by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in chosen.items()), named=True)["value"]


# Rows


def test_a_row_for_every_seed_and_scenario(trained: Trained) -> None:
    frame = trained.drill()
    model = trained.learner.model
    assert frame.schema == pl.Schema(DRILL_SCHEMA)
    assert frame["scenario"].to_list() == [CLEAN, *SCENARIOS] * len(model.runs)
    assert frame["seed"].unique(maintain_order=True).to_list() == list(model.runs)
    assert not frame.null_count().sum_horizontal().item()
    assert set(frame.select("stream", "model", "protocol", "period").unique().iter_rows()) == {
        ("small", "model", model.protocol, THIRD)
    }
    assert frame["survived"].all()
    assert frame.select(pl.col("worst", "mae", "weekly_mae") > 0).to_numpy().all()


@pytest.mark.parametrize("period", [THIRD, FIRST])
def test_the_clean_row_is_the_evaluation(trained: Trained, period: str) -> None:
    """Also on a period with a sensor the model has not met, whose rows are drawn."""
    learner, history = trained.learner, trained.history
    scored = {key: history[key] for key in (period, THIRD)}
    scores = evaluate_model(learner.stream, learner.model, trained.parts, scored, compute=trained.compute).scores
    naive = evaluate_naive(learner.stream, history[period]).scores
    clean = trained.drill(period=period, scenarios={})
    assert clean["scenario"].unique().to_list() == [CLEAN]
    for row in clean.iter_rows(named=True):
        assert row["mae"] == published(scores, period=period, seed=row["seed"])
        assert row["weekly_mae"] == published(naive, model="naive_weekly")
        assert row["skill"] == pytest.approx(100 * (1 - row["mae"] / row["weekly_mae"]))
        assert row["skill_loss"] == 0


def test_skill_is_measured_against_the_weekly_forecast_without_faults(trained: Trained) -> None:
    frame = trained.drill()
    base = frame["weekly_mae"][0]
    np.testing.assert_allclose(frame["skill"], 100 * (1 - frame["mae"] / base))
    for (_,), own in frame.group_by("seed"):
        np.testing.assert_allclose(own["skill_loss"], own["skill"][0] - own["skill"], atol=1e-9)
    assert frame.filter(pl.col("scenario") == "missing")["weekly_mae"][0] > base


def test_errors_and_extremes_are_those_of_all_forecasts(trained: Trained) -> None:
    learner, data = trained.learner, trained.history[THIRD]
    row = trained.drill(scenarios={"missing": Missing(0.5)}, seed=4).row(1, named=True)
    captured: list[PeriodArrays] = []

    def same_again(arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        captured.append(Missing(0.5)(arrays, graph, generator))
        return captured[-1]

    assert trained.drill(scenarios={"missing": same_again}, seed=4).row(1, named=True) == row
    model = learner.restore({part: of_seeds[row["seed"]] for part, of_seeds in trained.parts.items()})
    batches = list(forecasts(model.forecaster, captured[1].part("test", model.scaler), data.graph))
    forecast, truth, scored = (torch.cat(part).double().numpy() for part in zip(*batches, strict=True))
    assert row["worst"] == pytest.approx(np.abs(forecast).max(), rel=1e-5)
    error, counts = np.abs(forecast - truth), (scored > 0) & (truth != 0)
    steps = [error[:, :step][counts[:, :step]].mean() for step in range(1, 5)]
    assert row["mae"] == pytest.approx(np.mean(steps), rel=1e-5)


def test_the_weekly_forecast_is_scored_on_the_truth_and_not_on_what_it_read(trained: Trained) -> None:
    def doubled(arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        return replace(arrays, values=2 * arrays.values)

    frame = trained.drill(scenarios={"doubled": doubled, "lost": Missing(1.0)})
    clean, twice, lost = frame["weekly_mae"][:3]
    data = trained.history[THIRD]
    level = data.tensor.values[data.tensor.observed].mean()
    assert twice == pytest.approx(level, rel=0.1), "a forecast twice as high misses the truth by itself"
    assert clean < lost < twice


# The same faults for all


def recorded(seen: list[int]) -> Scenario:
    def scenario(arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        seen.append(int(torch.randint(1 << 62, (), generator=generator)))
        return arrays

    return scenario


def test_all_models_and_seeds_meet_the_same_faults(sound: Trained, paper: Trained) -> None:
    draws: dict[str, list[int]] = {"one": [], "other": []}
    scenarios = {name: recorded(seen) for name, seen in draws.items()}
    for model in (sound, paper):
        model.drill(scenarios=scenarios)
    assert {name: len(set(seen)) for name, seen in draws.items()} == {"one": 1, "other": 1}
    assert draws["one"][0] != draws["other"][0]
    sound.drill(scenarios=scenarios, seed=1)
    sound.drill(scenarios=scenarios, period=FIRST)
    assert len(set(draws["one"])) == 3


def test_weekly_errors_are_the_same_for_all_models_and_seeds(sound: Trained, paper: Trained) -> None:
    frame = pl.concat([sound.drill(), paper.drill()])
    assert frame.group_by("scenario").agg(pl.col("weekly_mae").n_unique())["weekly_mae"].to_list() == [1] * 8


def test_a_test_part_of_less_than_a_week_leaves_the_weekly_forecast_whole(make_learner, make_history, compute) -> None:
    """It reads what lies before the test part, which stays true."""
    learner = make_learner("online")
    data = make_history(learner.stream, missing=0.0)[THIRD]
    by_seed = {name: {learner.seed: one} for name, one in learner.learn(data, None, compute=compute).items()}
    frame = run_drill(learner.stream, learner.model, by_seed, data, compute=compute)
    assert frame["weekly_mae"].n_unique() == 1 and frame["mae"].n_unique() == len(frame)


def test_a_drill_gives_the_same_again_and_leaves_everything_as_it_was(trained: Trained) -> None:
    first = trained.drill()
    state = torch.get_rng_state()
    before = [one.digest for of_seeds in trained.parts.values() for one in of_seeds.values()]
    digest = trained.history[THIRD].digest
    assert trained.drill().equals(first)
    assert not trained.drill(seed=1).equals(first)
    assert torch.equal(torch.get_rng_state(), state)
    assert [one.digest for of_seeds in trained.parts.values() for one in of_seeds.values()] == before
    assert trained.history[THIRD].digest == digest


def test_scenarios_do_not_touch_each_other(sound: Trained) -> None:
    every = sound.drill()
    for name in ("stuck", "clock_shift"):
        alone = sound.drill(scenarios={name: SCENARIOS[name]})
        assert alone.equals(every.filter(pl.col("scenario").is_in([CLEAN, name])))


def test_the_weekly_forecast_knows_what_was_heard_even_where_nothing_is_scored(sound: Trained) -> None:
    """Readings that repeat every week, heard everywhere: whatever is scored is forecast without error."""
    data = sound.history[THIRD]
    tensor, random = data.tensor, np.random.default_rng(0)
    week = random.gamma(9, 5, (WEEK, *tensor.values.shape[1:])).astype(np.float32)
    whole = np.tile(week, (3, 1, 1))
    flags = np.where(random.random(whole.shape) < 0.4, MISSING, OBSERVED).astype(np.uint8)
    values = np.where(flags == MISSING, 0, whole).astype(np.float32)
    changed = replace(data, tensor=replace(tensor, values=values, flags=flags))

    def heard(arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        return replace(arrays, values=torch.from_numpy(whole), usable=torch.ones_like(arrays.usable))

    frame = replace(sound, history={THIRD: changed}).drill(scenarios={"heard": heard})
    assert frame["weekly_mae"][0] > 1
    assert frame["weekly_mae"][1] == pytest.approx(0, abs=1e-6)


# What does not survive


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_forecasts_that_are_no_numbers_do_not_survive(trained: Trained, value: float) -> None:
    frame = trained.drill(trained.spoilt(lambda bias: torch.where(torch.arange(len(bias)) == 2, value, bias)))
    assert not frame["survived"].any()
    for name in ("worst", "mae", "skill", "skill_loss"):
        assert frame[name].null_count() == len(frame)
    assert frame["weekly_mae"].is_not_null().all()
    (summary,) = drill_summary(frame).iter_rows(named=True)
    assert summary["survived"] == summary["ahead"] == 0
    assert summary["skill"] is None and summary["mean_loss"] is None and summary["worst_loss"] is None


@pytest.mark.parametrize("sign", [1, -1])
def test_enormous_forecasts_do_not_survive(paper: Trained, sign: int) -> None:
    """Protocol `paper` forecasts in the unit of the readings."""
    frame = paper.drill(paper.spoilt(lambda bias: bias + sign * 1e9))
    assert not frame["survived"].any()
    np.testing.assert_allclose(frame["worst"], 1e9, rtol=1e-3)
    np.testing.assert_allclose(frame["mae"], 1e9, rtol=1e-3)
    assert frame["skill"].max() < -1e6


def test_one_seed_that_breaks_is_told_apart(sound: Trained) -> None:
    frame = sound.drill(sound.spoilt(lambda bias: bias * torch.nan, seeds=[3]))
    assert dict(frame.group_by("seed").agg(pl.col("survived").all()).iter_rows()) == {5: True, 3: False}
    usual = sound.drill()
    assert frame.filter(pl.col("seed") == 5).equals(usual.filter(pl.col("seed") == 5))


def test_a_model_can_break_in_one_scenario_alone(sound: Trained) -> None:
    def enormous(arrays: PeriodArrays, graph: Graph, generator: Generator) -> PeriodArrays:
        return replace(arrays, values=1e6 * arrays.values)

    frame = sound.drill(scenarios={"enormous": enormous, "missing": Missing()})
    assert frame["survived"].to_list() == [True, False, True] * 2
    (summary,) = drill_summary(frame).iter_rows(named=True)
    assert (summary["scenarios"], summary["survived"], summary["worst_scenario"]) == (2, 1, "enormous")


@pytest.mark.parametrize(
    ("train", "bounds"),
    [([2.0, 4.0, 12.0], (-48, 62)), ([-3.0, -3.0], (-18, 12)), ([0.0, 0.0], (-5, 5)), ([], (-np.inf, np.inf))],
)
def test_bounds_come_from_scored_truth_of_the_training_part(
    make_arrays, train: list[float], bounds: tuple[float, float]
) -> None:
    values = np.full((100, 1), 1e6)
    values[: len(train), 0] = train
    seen = np.zeros((100, 1), bool)
    seen[: len(train)] = seen[60:] = True
    assert Bounds.of(make_arrays(values, seen)) == Bounds(*bounds)


# Unhappy paths


def reduced(data: PeriodData, ids: Sequence[str], graph: Graph) -> PeriodData:
    rows = data.nodes.index_of(ids)
    tensor = data.tensor
    tensor = replace(tensor, sensor_ids=tuple(ids), values=tensor.values[:, rows], flags=tensor.flags[:, rows])
    return PeriodData(data.period, NodeSet.of(ids, data.period.key), tensor, graph)


@pytest.mark.parametrize("ids", [("a",), ("a", "c", "d")])
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_one_sensor_or_no_edges_are_enough(make_learner, make_history, compute, ids: Any, protocol: str) -> None:
    learner = make_learner("eac", protocol=protocol)
    data = reduced(make_history(learner.stream)[THIRD], ids, Graph.from_edges([], [], [], num_nodes=len(ids)))
    parts = learner.learn(data, None, compute=compute)
    by_seed = {part: {learner.seed: one} for part, one in parts.items()}
    frame = run_drill(learner.stream, learner.model, by_seed, data, compute=compute)
    assert frame["scenario"].to_list() == [CLEAN, *SCENARIOS]
    assert frame["survived"].all() and frame["mae"].is_not_null().all()


def test_sensors_that_never_change_are_drilled(sound: Trained) -> None:
    data = sound.history[THIRD]
    still = replace(data, tensor=replace(data.tensor, values=np.full_like(data.tensor.values, 7)))
    frame = replace(sound, history={THIRD: still}).drill()
    assert not frame["weekly_mae"][0]
    assert frame["mae"].is_not_null().all()
    assert frame["skill"].null_count() == frame["skill_loss"].null_count() == len(frame), "nothing is below no error"


def test_a_test_part_without_truth_has_no_error(sound: Trained) -> None:
    data = sound.history[THIRD]
    flags = data.tensor.flags.copy()
    flags[PeriodArrays.of(data.tensor, data.nodes, sound.learner.stream, protocol=SOUND).cuts.test.start :] = MISSING
    values = np.where(flags == MISSING, 0, data.tensor.values).astype(np.float32)
    deaf = replace(data, tensor=replace(data.tensor, values=values, flags=flags))
    frame = replace(sound, history={THIRD: deaf}).drill()
    assert frame["survived"].all()
    assert frame["mae"].null_count() == frame["weekly_mae"].null_count() == frame["skill"].null_count() == len(frame)


def test_a_test_part_too_short_for_a_window_is_refused(sound: Trained) -> None:
    split = SplitConfig(train=0.6, validation=0.385, test=0.015)
    short = sound.learner.stream.model_copy(update={"split": split})
    with pytest.raises(InputError, match=r"its test part has 8 steps, but one window needs 10"):
        run_drill(short, sound.learner.model, sound.parts, sound.history[THIRD], compute=sound.compute)


# Summary


def rows(model: str, found: Mapping[str, tuple[bool, float | None, float | None]], **names: Any) -> pl.DataFrame:
    """Rows of a drill from scenario -> survived, error, skill loss; the weekly forecast's error is 10."""
    usual = {"stream": "small", "model": model, "protocol": "sound", "seed": 1, "period": FIRST, **names}
    return pl.DataFrame(
        [
            {**usual, "scenario": name, "survived": survived, "worst": 1.0, "mae": mae, "weekly_mae": 10.0}
            | {"skill": None if loss is None else 40 - loss, "skill_loss": loss}
            for name, (survived, mae, loss) in found.items()
        ],
        schema=DRILL_SCHEMA,
    )


def test_the_summary_has_one_row_per_model_the_toughest_first() -> None:
    frame = pl.concat(
        [
            rows("frail", {CLEAN: (True, 6.0, 0.0), "noise": (True, 7.0, 10.0), "stuck": (False, None, None)}),
            rows("tough", {CLEAN: (True, 6.0, 0.0), "noise": (True, 11.0, 50.0), "stuck": (True, 8.0, 20.0)}),
            rows("tough", {CLEAN: (True, 6.0, 0.0), "noise": (True, 7.0, 10.0), "stuck": (True, 8.0, 20.0)}, seed=2),
        ]
    )
    summary = drill_summary(frame)
    assert summary.schema == pl.Schema(SUMMARY_SCHEMA)
    names = {"stream": "small", "protocol": "sound", "periods": 1, "scenarios": 2, "skill": 40.0}
    assert summary.to_dicts() == [
        {**names, "model": "tough", "seeds": 2, "survived": 2, "ahead": 2}
        | {"mean_loss": 25.0, "worst_scenario": "noise", "worst_loss": 30.0},
        {**names, "model": "frail", "seeds": 1, "survived": 1, "ahead": 1}
        | {"mean_loss": 10.0, "worst_scenario": "stuck", "worst_loss": None},
    ]


def test_what_one_seed_or_one_period_did_not_survive_was_not_survived() -> None:
    good, bad = {"noise": (True, 7.0, 10.0)}, {"noise": (False, 7.0, 10.0)}
    frame = pl.concat([rows("m", good), rows("m", bad, seed=2), rows("m", good, period=SECOND)])
    (summary,) = drill_summary(frame).iter_rows(named=True)
    assert (summary["survived"], summary["ahead"], summary["seeds"], summary["periods"]) == (0, 0, 2, 2)


def test_a_summary_of_clean_rows_alone_and_of_nothing() -> None:
    (summary,) = drill_summary(rows("m", {CLEAN: (True, 6.0, 0.0)})).iter_rows(named=True)
    assert (summary["scenarios"], summary["skill"], summary["worst_scenario"]) == (0, 40.0, None)
    assert drill_summary(pl.DataFrame(schema=DRILL_SCHEMA)).equals(pl.DataFrame(schema=SUMMARY_SCHEMA))


def test_streams_are_summed_up_apart() -> None:
    frame = pl.concat([rows("m", {"noise": (True, 7.0, 1.0)}, stream=name) for name in ("one", "other")])
    assert drill_summary(frame)["stream"].to_list() == ["one", "other"]
