"""A model is scored by sensor id on every period it has lived through, and is the same afterwards."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING
from st_pipeline.errors import InputError
from st_pipeline.evaluation.losses import newest, require_comparable
from st_pipeline.evaluation.metrics import METRICS
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import SCHEMA
from st_pipeline.evaluation.scoring import Evaluation, evaluate_model, evaluate_naive
from st_pipeline.model_config import NAIVE_MODELS
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.types import Graph

Parts = dict[str, Checkpoint]
SPLIT = {"train": 0.3, "validation": 0.2, "test": 0.5}  # half of three weeks: more than a trace shows
TEST, SHOWN = slice(504 // 2, None), slice(-7 * 24 - 4, None)  # steps of a period
FIRST, SECOND, THIRD = "2024-01-01", "2024-01-22", "2024-02-12"


def evaluate(learner: Learner, parts: Parts, history: dict[str, PeriodData], compute: Compute) -> Evaluation:
    """The scores of a model that was trained with one seed."""
    by_seed = {part: {learner.seed: checkpoint} for part, checkpoint in parts.items()}
    return evaluate_model(learner.stream, learner.model, by_seed, history, compute=compute)


@dataclass(frozen=True, repr=False)
class Life:
    """A model after each period, and the periods."""

    learner: Learner
    history: dict[str, PeriodData]
    lives: list[Parts]
    compute: Compute

    def scored(self, through: str = THIRD, changed: Mapping[str, PeriodData] | None = None) -> Evaluation:
        """The model after a period on all periods up to it, some of them changed."""
        history = {key: data for key, data in (self.history | dict(changed or {})).items() if key <= through}
        return evaluate(self.learner, self.lives[len(history) - 1], history, self.compute)


@pytest.fixture(scope="module")
def live(make_learner, make_history, compute) -> Callable[..., Life]:
    def make(strategy: str, **options: Any) -> Life:
        learner = make_learner(strategy, **options)
        history = make_history(learner.stream)
        lives: list[Parts] = []
        for data in history.values():
            lives.append(learner.learn(data, lives[-1] if lives else None, compute=compute))
        return Life(learner, history, lives, compute)

    return make


@pytest.fixture(scope="module")
def life(live) -> Life:
    """The model of protocol `sound` with everything that belongs to a sensor: scaling, prompt and context rows."""
    backbone = {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2}
    return live("eac", backbone=backbone, seasonal=["1d", "7d"], stream={"split": SPLIT})


def reordered(data: PeriodData, order: Sequence[int]) -> PeriodData:
    """The same period with its sensors in another order."""
    rows = list(order)
    place = torch.tensor(np.argsort(rows))
    ids = tuple(data.nodes.ids[row] for row in rows)
    tensor = data.tensor
    tensor = replace(tensor, sensor_ids=ids, values=tensor.values[:, rows], flags=tensor.flags[:, rows])
    graph = data.graph
    graph = Graph.from_edges(place[graph.row], place[graph.column], graph.weight, num_nodes=len(rows))
    return PeriodData(data.period, replace(data.nodes, ids=ids), tensor, graph)


def silenced(data: PeriodData, sensors: Sequence[str], steps: slice = SHOWN) -> PeriodData:
    """The period without the readings of some sensors in some steps."""
    values, flags = data.tensor.values.copy(), data.tensor.flags.copy()
    for row in data.nodes.index_of(sensors):
        values[steps, row], flags[steps, row] = 0, MISSING
    return replace(data, tensor=replace(data.tensor, values=values, flags=flags))


def agree(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert one.drop("value").equals(other.drop("value"))
    np.testing.assert_allclose(one["value"].to_numpy(), other["value"].to_numpy(), rtol=1e-4, atol=1e-4)


def sensors(evaluation: Evaluation) -> dict[str, tuple[float, float, int]]:
    """Sensor id -> errors and cells of the newest period."""
    return {row["sensor_id"]: (row["mae"], row["wape"], row["cells"]) for row in evaluation.diagnostics["sensors"]}


def test_rows_cover_periods_cohorts_metrics_and_horizons(life: Life) -> None:
    rows = life.scored().scores
    assert rows.schema == pl.Schema(SCHEMA)
    assert rows["value"].is_finite().all() and not rows["value"].null_count()
    assert not rows.drop("value").is_duplicated().any()
    assert set(rows["trained_through"]) == {THIRD}
    assert set(rows["metric"]) == set(METRICS)
    horizons = {f"{label}:{step}" for label in ("at", "upto") for step in range(1, 5)}
    assert set(rows["horizon"]) == {*horizons, "published_average"}
    cohorts = {key: set(part["cohort"]) for (key,), part in rows.group_by("period")}
    assert cohorts == {key: {"all", *data.nodes.cohorts} for key, data in life.history.items()}
    assert set(life.scored(FIRST).scores["period"]) == {FIRST}


@settings(max_examples=8)
@given(st.tuples(*(st.permutations(range(count)) for count in (5, 6, 7))))
def test_another_order_of_the_sensors_gives_the_same_scores(life: Life, orders: Sequence[Sequence[int]]) -> None:
    usual = life.scored()
    changed = {key: reordered(life.history[key], order) for key, order in zip(life.history, orders, strict=True)}
    other = life.scored(changed=changed)
    agree(other.scores, usual.scores)
    assert sensors(other).keys() == sensors(usual).keys()
    for name, errors in sensors(usual).items():
        assert sensors(other)[name] == pytest.approx(errors, rel=1e-4)


def test_what_never_learns_again_scores_the_past_as_it_did(live) -> None:
    """Sensors have retired, come and returned since; the published protocol leaves nothing else that changes."""
    frozen = live("pretrain", protocol="paper")
    frames = [frozen.scored(key).scores for key in frozen.history]
    for cohort in ("all", FIRST):
        matrix = PeriodMatrix.of(pl.concat(frames), cohort=cohort)
        assert matrix.errors[1, 0] == matrix.errors[2, 0] == matrix.errors[0, 0]
        assert matrix.errors[2, 1] == matrix.errors[1, 1]
        assert matrix.forgetting == matrix.backward_transfer == 0


def test_a_sensor_that_has_retired_is_forecast_with_its_own_row(life: Life) -> None:
    """`e` is of the first two periods only: its row, kept aside, matters there and nowhere else."""
    usual = life.scored()
    parts = life.lives[2]
    assert parts["prompt_pool"].facts["cold"]["nodes"] == ["e"]
    pool = parts["prompt_pool"]
    cold = {"weights.nodes.cold": pool.tensors["weights.nodes.cold"] + 5}
    parts = {**parts, "prompt_pool": replace(pool, tensors={**pool.tensors, **cold})}
    changed = replace(life, lives=[*life.lives[:2], parts]).scored()
    same = {
        key: part["value"].equals(changed.scores.filter(pl.col("period") == key)["value"])
        for (key,), part in usual.scores.group_by("period")
    }
    assert same == {FIRST: False, SECOND: False, THIRD: True}


@pytest.mark.parametrize("protocol", ["sound", "paper"])
def test_sensors_that_a_model_has_never_met_are_scored_the_same_way_every_time(
    make_learner, make_history, compute, protocol: str
) -> None:
    learner = make_learner("eac", protocol=protocol)
    history = make_history(learner.stream)
    parts = learner.learn(history[THIRD], None, compute=compute)  # has not met e, which is of both earlier periods
    together = evaluate(learner, parts, history, compute).scores
    assert together["value"].is_finite().all()
    for key in (FIRST, SECOND):
        torch.rand(3)
        alone = evaluate(learner, parts, {key: history[key], THIRD: history[THIRD]}, compute).scores
        assert alone.filter(pl.col("period") == key).equals(together.filter(pl.col("period") == key))


def test_scoring_changes_neither_model_nor_data_nor_the_global_random_state(life: Life) -> None:
    parts, data = life.lives[2], life.history
    before = [part.digest for part in parts.values()], [period.digest for period in data.values()]
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = life.scored()
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002
    assert ([part.digest for part in parts.values()], [period.digest for period in data.values()]) == before
    again = life.scored()
    assert again.scores.equals(first.scores) and again.diagnostics == first.diagnostics


def test_every_seed_is_scored_as_if_it_were_alone(make_learner, make_history, compute) -> None:
    first = make_learner("eac", seeds=[5, 3])
    history = {FIRST: make_history(first.stream)[FIRST]}
    learners = {seed: replace(first, seed=seed) for seed in (5, 3)}
    parts = {seed: learner.learn(history[FIRST], None, compute=compute) for seed, learner in learners.items()}
    by_seed = {part: {seed: parts[seed][part] for seed in parts} for part in parts[5]}
    both = evaluate_model(first.stream, first.model, by_seed, history, compute=compute)
    other = evaluate_model(
        first.stream, first.model.model_copy(update={"seeds": (3,)}), by_seed, history, compute=compute
    )
    assert both.scores.filter(pl.col("seed") == 3).equals(other.scores)
    assert both.scores["seed"].unique().sort().to_list() == [3, 5]
    own = both.scores.filter(pl.col("seed") == 5)
    assert not own["value"].equals(other.scores["value"])


def test_later_readings_of_an_earlier_period_do_not_touch_the_other_periods(life: Life) -> None:
    usual, other = life.scored().scores, life.scored(changed={FIRST: silenced(life.history[FIRST], ["a", "b"])}).scores
    elsewhere = pl.col("period") != FIRST
    assert other.filter(elsewhere).equals(usual.filter(elsewhere))
    assert not other.equals(usual)


# Diagnostics


def test_diagnostics_are_plain_json_of_the_newest_period(life: Life) -> None:
    evaluation = life.scored()
    document = evaluation.diagnostics
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["period"] == THIRD and document["horizon"] == 4
    assert [row["sensor_id"] for row in document["sensors"]] == list(life.history[THIRD].nodes.ids)
    assert document["cost"]["parameters"] == life.lives[2]["backbone"].facts["parameters"]
    assert document["cost"]["seconds"] > 0
    pooled = evaluation.scores.row(
        by_predicate=(pl.col("period") == THIRD)
        & (pl.col("cohort") == "all")
        & (pl.col("metric") == "mae")
        & (pl.col("horizon") == "upto:4"),
        named=True,
    )
    total = sum(mae * cells for mae, _, cells in sensors(evaluation).values())
    assert total / sum(cells for _, _, cells in sensors(evaluation).values()) == pytest.approx(
        pooled["value"], rel=1e-4
    )


def test_traces_are_of_the_best_the_median_and_the_worst_sensor(life: Life) -> None:
    evaluation = life.scored()
    ranked = sorted(sensors(evaluation), key=lambda name: sensors(evaluation)[name][1])
    chosen = {trace["rank"]: trace["sensor_id"] for trace in evaluation.diagnostics["traces"]}
    assert chosen == {"best": ranked[0], "median": ranked[3], "worst": ranked[-1]}


def test_a_trace_shows_the_readings_at_its_times(life: Life) -> None:
    data = life.history[THIRD]
    for trace in life.scored().diagnostics["traces"]:
        assert len(trace["times"]) == len(trace["truth"]) == len(trace["forecast_first"]) == len(trace["forecast_last"])
        steps = np.searchsorted(data.tensor.times, trace["times"])
        (row,) = data.nodes.index_of([trace["sensor_id"]])
        seen = data.tensor.observed[steps, row, 0]
        shown = np.array([np.nan if value is None else value for value in trace["truth"]])
        np.testing.assert_array_equal(~np.isnan(shown), seen)
        np.testing.assert_allclose(shown[seen], data.tensor.values[steps, row, 0][seen], rtol=1e-5)
        assert steps[-1] == len(data.tensor.times) - 4
        assert all(value is not None for value in trace["forecast_first"] + trace["forecast_last"])


@settings(max_examples=10)
@given(st.sets(st.sampled_from("acdfghb"), min_size=1))
def test_exemplars_are_measured_in_the_days_shown(life: Life, silent: set[str]) -> None:
    traces = life.scored(changed={THIRD: silenced(life.history[THIRD], sorted(silent))}).diagnostics["traces"]
    heard = set("acdfghb") - silent
    names = [trace["sensor_id"] for trace in traces]
    assert set(names) <= heard
    assert len(names) == len(set(names)) == min(len(heard), 3)
    assert all(any(value is not None for value in trace["truth"]) for trace in traces)


def test_a_sensor_silent_through_the_test_part_has_no_error(life: Life) -> None:
    evaluation = life.scored(changed={THIRD: silenced(life.history[THIRD], ["c"], TEST)})
    assert sensors(evaluation)["c"] == (None, None, 0)
    assert evaluation.scores["value"].is_finite().all()
    only_h = life.scored(changed={THIRD: silenced(life.history[THIRD], ["f", "g"], TEST)}).scores
    born = only_h.filter((pl.col("period") == THIRD) & (pl.col("cohort") == SECOND))
    assert len(born) and born["value"].null_count() == len(born)


# Naive forecasts


def test_naive_forecasts_are_scored_by_cohort_on_their_own_period(make_stream, make_history) -> None:
    stream = make_stream()
    for key, data in make_history(stream).items():
        evaluation = evaluate_naive(stream, data)
        rows = evaluation.scores
        assert rows.schema == pl.Schema(SCHEMA)
        assert set(rows["model"]) == set(NAIVE_MODELS)
        assert set(rows["trained_through"]) == set(rows["period"]) == {key}
        assert set(rows["cohort"]) == {"all", *data.nodes.cohorts}
        assert rows["value"].is_finite().all()
        assert evaluate_naive(stream, data).scores.equals(rows)


def test_naive_scores_do_not_depend_on_the_order_of_sensors(make_stream, make_history) -> None:
    stream = make_stream()
    data = make_history(stream)[SECOND]
    agree(evaluate_naive(stream, reordered(data, [5, 3, 1, 0, 4, 2])).scores, evaluate_naive(stream, data).scores)


def test_the_losses_of_the_windows_add_up_to_the_scores(life: Life) -> None:
    found = life.scored()
    scores = found.scores.filter((pl.col("cohort") == "all") & (pl.col("metric") == "mae"))
    for (through, period), rows in found.losses.group_by("trained_through", "period"):
        own = scores.filter(trained_through=through, period=period)
        for step in (1, 4):
            at = rows.filter(horizon=step)
            assert own.filter(horizon=f"at:{step}")["value"].item() == pytest.approx(
                at["absolute"].sum() / at["cells"].sum()
            )
        masked = [rows.filter(pl.col("horizon") <= step) for step in range(1, 5)]
        means = [part["absolute_nonzero"].sum() / part["cells_nonzero"].sum() for part in masked]
        assert own.filter(horizon="published_average")["value"].item() == pytest.approx(np.mean(means))


def test_losses_of_models_that_were_scored_on_the_same_cells_may_be_compared(life: Life) -> None:
    own = newest(life.scored().losses)
    naive = newest(evaluate_naive(life.learner.stream, life.history[THIRD]).losses)
    latest = own.filter(period=THIRD)
    require_comparable(latest, naive.filter(model="naive_weekly"))
    times = life.history[THIRD].tensor.times
    assert latest["issued_at"].n_unique() == len(latest) // 4
    assert set(latest["issued_at"]) <= set(times.tolist())
    assert latest["issued_at"].min() == times[len(times) // 2 + 5]  # the sixth step of the test part
    with pytest.raises(InputError, match=r"mask|data"):
        require_comparable(latest.with_columns(mask=pl.lit("other")), naive.filter(model="naive_weekly"))


def test_the_model_before_a_period_is_scored_on_it(life: Life) -> None:
    before, newest_parts = ({p: {life.learner.seed: c} for p, c in parts.items()} for parts in life.lives[1:])
    run = partial(evaluate_model, life.learner.stream, life.learner.model, newest_parts, life.history)
    found, without = run(before=before, compute=life.compute), run(compute=life.compute)
    ahead = found.scores.filter((pl.col("trained_through") == SECOND) & (pl.col("period") == THIRD))
    assert len(ahead) and ahead["value"].is_not_null().any()
    assert found.scores.filter(pl.col("trained_through") == THIRD).equals(without.scores)
    assert found.diagnostics == without.diagnostics
    own = without.scores.filter((pl.col("period") == THIRD) & (pl.col("cohort") == "all"))
    assert not np.allclose(own["value"].to_numpy(), ahead.filter(cohort="all")["value"].to_numpy(), equal_nan=True)
