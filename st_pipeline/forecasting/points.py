"""Point forecasts of many issue times at once, by the model and by what is known of earlier weeks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st_pipeline.data.protocols import ENOUGH_DAYS, PROTOCOLS, SOUND
from st_pipeline.data.scaling import Scaler
from st_pipeline.evaluation.naive import DAYS_PER_WEEK, latest_observed, season_back
from st_pipeline.forecasting.series import Series
from st_pipeline.forecasting.served import Served
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.base import Forecaster
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.reproducibility import seeded
from st_pipeline.types import Graph, NodeSet, Period

GraphOf = Callable[[tuple[str, ...], Period], Graph]  # of these sensors, as they lie in that period
Floats = NDArray[np.float32]
Steps = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Past:
    """What the readings themselves say at each issue time.

    season (S, H, N): the value a week, two weeks or a day before, NaN where none is known; last (S, N): the last
    observed value, NaN before there is one; heard (S, N): its step, -1 before there is one; window (S, N): observed
    cells among the steps that a model reads.
    """

    season: Floats
    last: Floats
    heard: Steps
    window: Steps


def past(series: Series, issued: Steps) -> Past:
    """What is known at the last steps that are read (S,); of the target, as protocol `sound` sees it."""
    arrays = series.arrays(series.ids, SOUND)
    values, observed = arrays.values[..., 0], arrays.scored
    day, future, at = series.config.steps_per_day, series.future(issued), torch.from_numpy(issued)
    unknown = torch.full((*future.shape, len(series.ids)), torch.nan)
    lags = [DAYS_PER_WEEK * day, 2 * DAYS_PER_WEEK * day, day]
    season = season_back(values, observed, at, future, lags=lags, otherwise=unknown)
    latest = latest_observed(observed)[at]
    last = torch.where(latest >= 0, values.gather(0, latest.clamp(min=0)), torch.nan)
    seen = torch.cat([torch.zeros_like(observed[:1], dtype=torch.int64), observed.long().cumsum(0)])
    window = seen[at + 1] - seen[(at + 1 - series.config.window).clamp(min=0)]
    return Past(season.numpy(), last.numpy(), latest.numpy(), window.numpy())


def known_points(served: Served, series: Series, issued: Steps, graph_of: GraphOf) -> Floats:
    """(S, H, N) of the sensors that the model was trained on, over the graph it was trained on; NaN of all others."""
    found = _nothing(series, issued)
    graph = graph_of(served.ids, served.through)
    rows = series.rows(served.ids)
    there = rows >= 0
    found[:, :, rows[there]] = _run(served, served.forecaster, series, served.ids, graph, issued, served.scaler)[
        :, :, there
    ]
    return found


def joined_points(
    served: Served, series: Series, issued: Steps, members: Bools, graph_of: GraphOf, *, enough: Bools
) -> Floats:
    """(S, H, N) of sensors that the model was not trained on; NaN of all others.

    The network at an issue time is that of the model with the sensors that are there by then. A sensor whose rows are
    kept aside gets them back. The rows of others are the mean of their neighbours' rows, weighted by the edges, or
    the mean of all rows.

    Args:
        members: (S, N) sensors that are there.
        enough: (S, N) those of them that are to be forecast.
    """
    found = _nothing(series, issued)
    stages = _stages(series, issued, members)
    for slots, new in _segments(members, stages):
        if not enough[slots][:, new].any():
            continue
        ids = (*served.ids, *(series.ids[row] for row in new))
        graph = graph_of(ids, series.period)
        forecaster = _expanded(served, ids, graph)
        scaler = _with_own_level(served, series, new, before=int(issued[slots[0]]) + 1)
        points = _run(served, forecaster, series, ids, graph, issued[slots], scaler)
        found[slots[:, None, None], np.arange(found.shape[1])[:, None], new] = points[:, :, len(served.ids) :]
    return np.where(enough[:, None], found, np.nan)


def _nothing(series: Series, issued: Steps) -> Floats:
    return np.full((len(issued), series.config.horizon, len(series.ids)), np.nan, dtype=np.float32)


def _stages(series: Series, issued: Steps, members: Bools) -> Steps:
    """(S, N): how often the readings of a sensor have doubled since it was heard for `ENOUGH_DAYS`."""
    count = series.tensor.observed[..., 0].cumsum(0)[issued]
    days = count / (ENOUGH_DAYS * series.config.steps_per_day)
    stage = np.floor(np.log2(np.maximum(days, 0.5))).astype(np.int64)
    return np.where(members, stage, -2)


def _segments(members: Bools, stages: Steps) -> Iterator[tuple[Steps, Steps]]:
    """Runs of issue times with the same sensors at the same stages: places (S',) and columns (M,), if there are any."""
    if not len(members):
        return
    change = np.flatnonzero((stages[1:] != stages[:-1]).any(axis=1)) + 1
    for slots in np.split(np.arange(len(members)), change):
        new = np.flatnonzero(members[slots[0]])
        if len(new):
            yield slots, new


def _with_own_level(served: Served, series: Series, new: Steps, *, before: int) -> Scaler:
    """The model's statistics, with a new sensor's own level and spread of the steps before one, if it has enough."""
    model = served.learner.model
    if model.protocol != SOUND.name or model.scaling.per != "sensor":
        return served.scaler
    ids = tuple(series.ids[row] for row in new)
    values, seen = (torch.from_numpy(part[:before, new]) for part in (series.tensor.values, series.tensor.observed))
    own = Scaler.fit(
        values,
        seen,
        nodes=NodeSet.of(ids),
        per="sensor",
        transform=model.scaling.transform,
        enough=ENOUGH_DAYS * series.config.steps_per_day,
    )
    return served.scaler.with_target(own)


def _run(
    served: Served,
    forecaster: Forecaster,
    series: Series,
    ids: tuple[str, ...],
    graph: Graph,
    issued: Steps,
    scaler: Scaler,
) -> Floats:
    """(S, H, M) of these sensors, in the unit of the readings."""
    learner, window = served.learner, series.config.window
    empty = torch.zeros(0, series.config.horizon, len(ids))
    if not len(issued):
        return empty.numpy()
    first = max(0, int(issued[0]) - window + 1 - max(learner.lags, default=0))
    steps = slice(first, int(issued[-1]) + series.config.horizon + 1)
    arrays = series.arrays(ids, PROTOCOLS[learner.model.protocol], learner.lags, steps)
    part = replace(arrays.scaled(scaler), starts=torch.from_numpy(issued) - window + 1 - first)
    points = [points for points, _, _ in forecasts(forecaster, part, graph)]
    return torch.cat([empty, *points]).numpy()


def _expanded(served: Served, ids: tuple[str, ...], graph: Graph) -> Forecaster:
    """The model for more sensors than it was trained on."""
    forecaster = copy.deepcopy(served.forecaster)
    new = [place for place, name in enumerate(ids) if place >= len(served.ids) and name not in served.aside]
    share = _shares(graph, new, old=len(served.ids))
    with seeded(0):
        forecaster.expand(NodeSet.of(ids))
    for table in node_tables(forecaster).values():
        rows = table.table().detach().clone()
        rows[new] = share @ rows[: len(served.ids)]
        table.load_state_dict({"rows": rows, "cold": table.cold})
    return forecaster


def _shares(graph: Graph, new: list[int], *, old: int) -> Tensor:
    """(M, old): by how much the rows of old nodes enter those of the new ones."""
    weight = edge_weights(graph, new, old=old)
    alone = weight.sum(1, keepdim=True) <= 0
    weight = torch.where(alone, torch.ones_like(weight), weight)
    return weight / weight.sum(1, keepdim=True)


def edge_weights(graph: Graph, new: list[int], *, old: int) -> Tensor:
    """(M, old): weights of the edges by which the new nodes gather from the old ones, which come first; 0 for none."""
    weight = torch.zeros(len(new), old)
    place = {row: at for at, row in enumerate(new)}
    for row, column, value in zip(graph.row.tolist(), graph.column.tolist(), graph.weight.tolist(), strict=True):
        if row in place and column < old:
            weight[place[row], column] = max(value, 0.0)
    return weight
