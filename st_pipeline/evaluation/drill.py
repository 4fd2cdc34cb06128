"""The drill: how a trained model stands up to faults (`scenarios.py`) in what it reads of a period's test part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import SOUND, Part, PeriodArrays
from st_pipeline.evaluation.metrics import Tally, error_sums
from st_pipeline.evaluation.naive import NaiveForecasts
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.scenarios import SCENARIOS, Scenario
from st_pipeline.evaluation.scoring import prepared
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.forecasts import sum_over_forecasts
from st_pipeline.training.learner import Learner
from st_pipeline.training.pieces import Workers, workers
from st_pipeline.training.reproducibility import derive_seed
from st_pipeline.types import Graph

CLEAN = "clean"
LEEWAY = 5  # ranges of the training truth that a forecast may lie outside it
NAMES = {"stream": pl.String, "model": pl.String, "protocol": pl.String}
DRILL_SCHEMA = {
    **NAMES,
    "seed": pl.Int64,
    "period": pl.String,
    "scenario": pl.String,
    "survived": pl.Boolean,
    **dict.fromkeys(["worst", "mae", "weekly_mae", "skill", "skill_loss"], pl.Float64),
}
SUMMARY_SCHEMA = {
    **NAMES,
    **dict.fromkeys(["seeds", "periods", "scenarios", "survived", "ahead"], pl.Int64),
    **dict.fromkeys(["skill", "mean_loss"], pl.Float64),
    "worst_scenario": pl.String,
    "worst_loss": pl.Float64,
}
Change = Callable[[PeriodArrays], PeriodArrays]


@dataclass(frozen=True)
class Bounds:
    """Where forecasts are believable: the training truth's lowest and highest value, and `LEEWAY` ranges beyond.

    Where that truth never changes, its size stands for the range (1 if it is zero); where there is none, every
    finite forecast is believable.
    """

    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def of(cls, arrays: PeriodArrays) -> Bounds:
        train = slice(arrays.cuts.train.start, arrays.cuts.train.stop)
        truth = arrays.truth[train][arrays.scored[train]]
        if not len(truth):
            return cls()
        low, high = (float(end) for end in truth.aminmax())
        beyond = LEEWAY * (high - low or abs(high) or 1.0)
        return cls(low - beyond, high + beyond)


@dataclass(frozen=True)
class Outcome:
    """What became of a model in a scenario: errors are None where they are no finite number."""

    survived: bool
    worst: float | None
    mae: float | None


def run_drill(
    stream: StreamConfig,
    model: ModelConfig,
    parts: Mapping[str, BySeed],
    data: PeriodData,
    *,
    compute: Compute,
    scenarios: Mapping[str, Scenario] = SCENARIOS,
    seed: int = 0,
) -> pl.DataFrame:
    """A row per seed of the model and scenario, `clean` first.

    Columns: stream, model, protocol, seed, period, scenario, survived (every forecast is finite and within `Bounds`),
    worst (largest absolute forecast), mae (the published average), weekly_mae (that of the weekly naive forecast
    under the same faults), skill (percent below the weekly naive forecast without faults), skill_loss (percentage
    points of skill below `clean`). A number that is not finite is null.

    Args:
        parts: part -> seed -> checkpoint.
        seed: of the faults, which are the same for every model and every seed of a model.

    Raises:
        InputError: the test part is too short for a window or a scenario; the device is missing or too full.
    """
    changes: dict[str, Change] = {CLEAN: lambda arrays: arrays}
    for name, scenario in scenarios.items():
        changes[name] = _change(scenario, data.graph, derive_seed(seed, stream.name, data.period.key, name))
    weekly = _weekly_errors(stream, data, changes)
    rows = []
    for run in model.runs:
        own = {part: checkpoints[run] for part, checkpoints in parts.items()}
        outcomes = _outcomes(Learner(stream, model, run), own, data, changes, compute)
        names = {"stream": stream.name, "model": model.name, "protocol": model.protocol, "seed": run}
        rows += _rows({**names, "period": data.period.key}, outcomes, weekly)
    return pl.DataFrame(rows, schema=DRILL_SCHEMA)


def drill_summary(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per model of a stream, the toughest first: means over seeds and periods.

    Columns: stream, model, protocol, seeds, periods, scenarios (their number, without `clean`), survived (scenarios
    survived with every seed in every period), ahead (survived scenarios in which the model's error is below that of
    the weekly naive forecast under the same faults), skill (without faults), mean_loss (percentage points, over the
    scenarios where it is known), worst_scenario (one that was not survived before all others, then the largest loss)
    and worst_loss.
    """
    rows = []
    for (stream, model, protocol), own in frame.group_by(list(NAMES), maintain_order=True):
        by_scenario = (
            own.filter(pl.col("scenario") != CLEAN)
            .group_by("scenario", maintain_order=True)
            .agg(pl.col("survived").all(), pl.col("mae", "weekly_mae", "skill_loss").mean())
            .sort("survived", "skill_loss", descending=[False, True], nulls_last=False, maintain_order=True)
        )
        ahead = by_scenario.select((pl.col("survived") & (pl.col("mae") < pl.col("weekly_mae"))).sum()).item()
        first = by_scenario.row(0, named=True) if len(by_scenario) else {"scenario": None, "skill_loss": None}
        rows.append(
            {
                "stream": stream,
                "model": model,
                "protocol": protocol,
                "seeds": own["seed"].n_unique(),
                "periods": own["period"].n_unique(),
                "scenarios": len(by_scenario),
                "survived": by_scenario["survived"].sum(),
                "ahead": ahead,
                "skill": own.filter(pl.col("scenario") == CLEAN)["skill"].mean(),
                "mean_loss": by_scenario["skill_loss"].mean(),
                "worst_scenario": first["scenario"],
                "worst_loss": first["skill_loss"],
            }
        )
    summary = pl.DataFrame(rows, schema=SUMMARY_SCHEMA)
    return summary.sort("survived", "mean_loss", "model", descending=[True, False, False], nulls_last=True)


def _change(scenario: Scenario, graph: Graph, seed: int) -> Change:
    """The scenario with its graph, and draws that are the same every time."""
    return lambda arrays: scenario(arrays, graph, torch.Generator().manual_seed(seed))


def _weekly_errors(stream: StreamConfig, data: PeriodData, changes: Mapping[str, Change]) -> dict[str, float | None]:
    """Scenario -> error of the weekly naive forecast, protocol `sound`."""
    arrays = PeriodArrays.of(data.tensor, data.nodes, stream, protocol=SOUND)
    found = {}
    for name, change in changes.items():
        read = change(arrays)
        naive = NaiveForecasts(replace(read, scored=read.usable[..., 0]), stream.steps_per_day)
        naive.arrays = read  # it has read all that was heard, and is scored on what was measured
        found[name] = _error(Tally.of(naive.batches("naive_weekly")))
    return found


def _outcomes(
    learner: Learner,
    parts: Mapping[str, Checkpoint],
    data: PeriodData,
    changes: Mapping[str, Change],
    compute: Compute,
) -> dict[str, Outcome]:
    """Scenario -> what became of one trained model."""
    found = {}
    with ExitStack() as stack:
        purpose = f"{learner.stream.name}/{learner.model.name} drill"
        usage, plan = stack.enter_context(learner.planned(data, compute, purpose))
        team = stack.enter_context(workers(usage.device, plan.threads, splits=plan.divided))
        trained = learner.restore(parts)
        trained.scaler = trained.scaler.to(usage.device)
        _, graph, forecaster = prepared(learner, trained, data, usage.device)
        arrays = learner.arrays(data, usage.device)
        bounds = Bounds.of(arrays)
        for name, change in changes.items():
            part = change(arrays).part("test", trained.scaler)
            found[name] = _outcome(forecaster, part, graph, bounds, team=team, most=plan.windows)
    return found


def _outcome(forecaster: Forecaster, part: Part, graph: Graph, bounds: Bounds, *, team: Workers, most: int) -> Outcome:
    """Errors and extremes from one pass over the forecasts; a NaN among the forecasts is one of their extremes."""
    ends: list[Tensor] = []

    def each(forecast: Tensor, truth: Tensor, scored: Tensor) -> Tensor:
        ends.append(torch.stack(forecast.aminmax()))  # kept beside the sums, since a maximum does not add up
        return error_sums(forecast, truth, scored)

    mae = _error(Tally.of_part(part, sum_over_forecasts(forecaster, part, graph, each, workers=team, most=most)))
    extremes = torch.stack(ends)
    low, high = float(extremes[:, 0].amin()), float(extremes[:, 1].amax())
    if not (math.isfinite(low) and math.isfinite(high)):
        return Outcome(survived=False, worst=None, mae=mae)
    return Outcome(bounds.low <= low and high <= bounds.high, max(abs(low), abs(high)), mae)


def _rows(
    names: Mapping[str, Any], outcomes: Mapping[str, Outcome], weekly: Mapping[str, float | None]
) -> list[dict[str, Any]]:
    base = weekly[CLEAN]
    skill = {
        name: 100 * (1 - outcome.mae / base) if outcome.mae is not None and base else None
        for name, outcome in outcomes.items()
    }
    usual = skill[CLEAN]
    return [
        {
            **names,
            "scenario": name,
            **vars(outcome),
            "weekly_mae": weekly[name],
            "skill": own,
            "skill_loss": None if usual is None or own is None else usual - own,
        }
        for (name, outcome), own in zip(outcomes.items(), skill.values(), strict=True)
    ]


def _error(tally: Tally) -> float | None:
    value = tally.scores()[("mae", PUBLISHED)]
    return value if math.isfinite(value) else None
