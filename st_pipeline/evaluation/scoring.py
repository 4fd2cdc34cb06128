"""Scoring a trained model on the test part of a period, and what a person looks at beside the scores."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import SOUND, Part, PartName, PeriodArrays
from st_pipeline.errors import InputError
from st_pipeline.evaluation.losses import loss_rows
from st_pipeline.evaluation.metrics import Tally, loss_sums
from st_pipeline.evaluation.naive import NaiveForecasts
from st_pipeline.evaluation.rows import SCHEMA
from st_pipeline.evaluation.sweep import Sweep, divided
from st_pipeline.model_config import NAIVE_MODELS, ModelConfig, ScalingConfig
from st_pipeline.training.checkpoint import BySeed, Checkpoint, cost_of_seeds
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.training.pieces import workers
from st_pipeline.training.reproducibility import derive_seed, seeded
from st_pipeline.training.trained import BACKBONE, Trained
from st_pipeline.types import Graph, NodeSet

TRACE_DAYS = 7  # of the test part, that a trace shows
Batches = Iterable[tuple[Tensor, Tensor, Tensor]]
SHOWN = 0.5  # a sensor with less than this share of the best measured sensor's cells in those days is not shown


@dataclass(frozen=True)
class Evaluation:
    """Scores in tidy rows, losses of every test window, and diagnostics of the newest period as a JSON document."""

    scores: pl.DataFrame
    losses: pl.DataFrame
    diagnostics: dict[str, Any]


def evaluate_model(
    stream: StreamConfig,
    model: ModelConfig,
    parts: Mapping[str, BySeed],
    history: Mapping[str, PeriodData],
    *,
    before: Mapping[str, BySeed] | None = None,
    compute: Compute,
) -> Evaluation:
    """Score a model, each of its seeds, on the test parts of every period it has lived through.

    The diagnostics are those of the first seed; costs are means over the seeds, memory their largest.

    Args:
        parts: part -> seed -> checkpoint after the newest period.
        history: period key -> data, up to and including that period.
        before: the parts after the period before; what they make of the newest is scored too (forward transfer).
    """
    found = [
        evaluate_seed(
            Learner(stream, model, seed), _of_seed(parts, seed), history, before=_of_seed(before, seed), compute=compute
        )
        for seed in model.runs
    ]
    backbone = parts[BACKBONE]
    cost = {**_counts(backbone[model.runs[0]]), **cost_of_seeds(backbone), "seeds": len(model.runs)}
    scores, losses = pl.concat([one.scores for one in found]), pl.concat([one.losses for one in found])
    return Evaluation(scores, losses, {**found[0].diagnostics, "cost": cost})


def _of_seed(parts: Mapping[str, BySeed] | None, seed: int) -> dict[str, Checkpoint]:
    """A seed's parts; none if one of them is not there."""
    known = parts or {}
    return {part: by_seed[seed] for part, by_seed in known.items()} if all(seed in p for p in known.values()) else {}


def evaluate_seed(
    learner: Learner,
    parts: Mapping[str, Checkpoint],
    history: Mapping[str, PeriodData],
    *,
    before: Mapping[str, Checkpoint] | None = None,
    compute: Compute,
) -> Evaluation:
    """Score one trained model on the test parts of every period it has lived through.

    Args:
        before: its parts after the period before, scored on the newest period alone.
    """
    newest = parts[BACKBONE].facts["period"]
    current = history[newest]
    frames, losses = [], []
    purpose = f"{learner.stream.name}/{learner.model.name} evaluation"
    with ExitStack() as stack:
        cut = stack.enter_context(divided(learner, current, compute, purpose))
        usage, plan = cut.usage, cut.plan
        team = stack.enter_context(workers(usage.device, plan.threads, splits=plan.divided))
        diagnostics: dict[str, Any] = {}
        for checkpoints, keys in ((parts, sorted(history)), (before or {}, [newest])):
            if not checkpoints:
                continue
            trained = learner.restore(checkpoints)
            trained.scaler = trained.scaler.to(cut.home)
            through = checkpoints[BACKBONE].facts["period"]
            for key in keys:
                data, names = history[key], _names(learner, through, key)
                part, graph, forecaster = prepared(learner, trained, data, cut.home)
                model = forecaster.to(usage.device)
                sweep = Sweep(model, part, graph, usage.device, team, plan.windows, cut.shards(graph))
                errors, windows = sweep.loss_sums()
                tally = Tally.of_part(part, errors)
                frames.append(score_rows(tally, data.nodes, names))
                losses.append(loss_rows(windows, part, data.tensor.times, names, _split(learner.stream)))
                if through == key == newest:
                    latest = sweep.forecasts(latest_windows(part, learner.stream).starts)
                    diagnostics = _diagnostics(tally, data, part, latest)
    return Evaluation(pl.concat(frames), pl.concat(losses), diagnostics)


def evaluate_naive(stream: StreamConfig, data: PeriodData) -> Evaluation:
    """Score the naive forecasts on the test part of one period, protocol `sound`."""
    arrays = PeriodArrays.of(data.tensor, data.nodes, stream, protocol=SOUND)
    naive = NaiveForecasts(arrays, stream.steps_per_day)
    return evaluate_forecasts(stream, data, arrays, {name: naive.batches(name) for name in NAIVE_MODELS})


def evaluate_forecasts(
    stream: StreamConfig, data: PeriodData, arrays: PeriodArrays, forecasters: Mapping[str, Batches]
) -> Evaluation:
    """Score what is not trained from period to period on the test part of one period, protocol `sound`, seed 0.

    Args:
        forecasters: name -> forecast, truth and scored cells (B, H, N) of all test windows in order.
    """
    part = arrays.part("test", arrays.fit_scaler(ScalingConfig()))
    frames, losses = [], []
    for name, batches in forecasters.items():
        names = {"stream": stream.name, "model": name, "protocol": SOUND.name, "seed": 0}
        names |= {"trained_through": data.period.key, "period": data.period.key}
        found = [loss_sums(*batch) for batch in batches]
        tally = Tally.of_part(part, torch.stack([sums for sums, _ in found]).sum(0))
        frames.append(score_rows(tally, data.nodes, names))
        windows = torch.cat([sums for _, sums in found], dim=1)
        losses.append(loss_rows(windows, part, data.tensor.times, names, _split(stream)))
    return Evaluation(pl.concat(frames), pl.concat(losses), {})


def _split(stream: StreamConfig) -> str:
    shares = stream.split
    return f"{shares.train:g}/{shares.validation:g}/{shares.test:g}"


def score_rows(tally: Tally, nodes: NodeSet, names: Mapping[str, Any]) -> pl.DataFrame:
    """Tidy rows of all sensors and of each cohort."""
    cohorts: dict[str, list[int] | None] = {"all": None, **nodes.cohorts}
    rows = [
        {**names, "cohort": cohort, "metric": metric, "horizon": horizon, "value": None if np.isnan(value) else value}
        for cohort, members in cohorts.items()
        for (metric, horizon), value in tally.scores(members).items()
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def prepared(
    learner: Learner, trained: Trained, data: PeriodData, device: torch.device, name: PartName = "test"
) -> tuple[Part, Graph, Any]:
    """A part, the graph and the model for the node set of a period."""
    forecaster = copy.deepcopy(trained.forecaster)
    with seeded(derive_seed(learner.seed, learner.stream.name, learner.model.name, data.period.key)):
        forecaster.expand(data.nodes)  # a sensor the model has not met, or has forgotten, gets rows as a new one does
    part = learner.arrays(data, device).part(name, trained.scaler)
    return part, data.graph.to(device), forecaster.to(device)


def require_same_sensors(learner: Learner, parts: Mapping[str, Checkpoint], data: PeriodData) -> None:
    """Refuse weights that are not of the period's own sensors.

    Raises:
        InputError: saying what to materialise.
    """
    if tuple(parts[BACKBONE].facts["nodes"]) != data.nodes.ids:
        name = f"{learner.stream.name}/{learner.model.name} of {data.period.key}"
        raise InputError(f"{name} was trained on other sensors than the period has; materialise {name} first")


def _names(learner: Learner, trained_through: str, period: str) -> dict[str, Any]:
    model = learner.model
    names = {"stream": learner.stream.name, "model": model.name, "protocol": model.protocol, "seed": learner.seed}
    return {**names, "trained_through": trained_through, "period": period}


def _counts(backbone: Checkpoint) -> dict[str, Any]:
    return {name: backbone.facts[name] for name in ("parameters", "trainable", "best_epoch")}


def latest_windows(part: Part, stream: StreamConfig) -> Part:
    """The last windows of a part, as many as a trace shows."""
    return replace(part, starts=part.starts[-TRACE_DAYS * stream.steps_per_day :])


def _diagnostics(
    tally: Tally, data: PeriodData, part: Part, batches: Iterator[tuple[Tensor, Tensor, Tensor]]
) -> dict[str, Any]:
    """Errors per sensor, and truth against forecast for the best, the median and the worst sensor."""
    mae, wape = tally.by_sensor("mae"), tally.by_sensor("wape")
    cells = tally.observed.count.sum(axis=1)
    sensors = [
        {"sensor_id": name, "mae": _number(mae[row]), "wape": _number(wape[row]), "cells": int(cells[row])}
        for row, name in enumerate(data.nodes.ids)
    ]
    forecast, truth, scored = (torch.cat(part) for part in zip(*batches, strict=True))
    chosen = _exemplars(wape, shown=scored[:, 0].sum(0).cpu().numpy())
    first = part.offset + int(part.starts[-len(forecast)]) + part.windows.window
    steps = part.windows.horizon
    traces = []
    for rank, row in chosen.items():
        shown = {
            "forecast_first": forecast[:, 0, row],
            "forecast_last": forecast[:, -1, row],
            "truth": torch.where(scored[:, 0, row], truth[:, 0, row], torch.nan),
        }
        series = {name: [_number(v) for v in values.cpu().numpy()] for name, values in shown.items()}
        times = data.tensor.times[first : first + len(forecast)].tolist()
        traces.append(
            {"rank": rank, "sensor_id": data.nodes.ids[row], "wape": _number(wape[row]), "times": times, **series}
        )
    return {"period": data.period.key, "horizon": steps, "sensors": sensors, "traces": traces}


def _exemplars(errors: NDArray[np.float64], *, shown: NDArray[np.int64]) -> dict[str, int]:
    """Rows of the best, median and worst sensor by relative error, among those with enough of the shown cells.

    Fewer where there are fewer sensors.
    """
    eligible = ~np.isnan(errors) & (shown > 0) & (shown >= SHOWN * shown.max(initial=0))
    order = [int(row) for row in np.argsort(errors, kind="stable") if eligible[row]]
    if not order:
        return {}
    picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {rank: row for i, (rank, row) in enumerate(picks.items()) if row not in list(picks.values())[:i]}


def _number(value: float) -> float | None:
    """A float JSON can hold, to six significant digits."""
    return None if not np.isfinite(value) else float(f"{float(value):.6g}")
