"""What a sensor without readings would be forecast, and how fast a new one becomes as good as the known ones.

Estimated by hiding: known sensors are taken out of a trained model and its network, and given back as new ones with
the readings of their last days. The weights that all sensors share stay as they were trained, with them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from st_pipeline.data.quality import MISSING
from st_pipeline.data.windows import spaced
from st_pipeline.forecasting.ladder import ENOUGH, climb
from st_pipeline.forecasting.points import (
    Bools,
    Floats,
    GraphOf,
    Steps,
    edge_weights,
    joined_points,
    known_points,
    past,
)
from st_pipeline.forecasting.series import Series
from st_pipeline.forecasting.served import Served
from st_pipeline.forecasting.walk import Truth
from st_pipeline.training.reproducibility import seeded
from st_pipeline.types import Graph, NodeSet

AGES = (0, 1, 3, 7, 14, 28)  # days since the first reading
MOST_DAYS = 14  # of the test part, that forecasts are made on
ISSUES = 6  # a day
MOST_SENSORS = 20  # hidden in all
TOGETHER = 8  # at most one of so many sensors is hidden at a time
HEARD = 0.8  # of the steps, at which a sensor that is hidden was observed


@dataclass(frozen=True, eq=False)
class Trial:
    """Forecasts of hidden sensors: at each age, at the same issue times.

    Attributes:
        ages: (A,) whole days of readings; a forecast has up to a day more.
        ids: (M,) hidden sensors.
        points: (A, S, H, M), NaN where there is none.
        known: (S, H, M) of the same sensors while the model knows them.
        weekly: (S, H, M) weekly naive forecasts, from all readings.
        truth: (S, H, M), NaN where nothing was measured.
        slot: (S, H) of the week.
    """

    ages: tuple[int, ...]
    ids: tuple[str, ...]
    points: Floats
    known: Floats
    weekly: Floats
    truth: Floats
    slot: Steps

    def of_sensors(self, columns: Sequence[int]) -> Trial:
        """The same of some hidden sensors."""
        cut = {name: getattr(self, name)[..., columns] for name in ("points", "known", "weekly", "truth")}
        return replace(self, ids=tuple(self.ids[column] for column in columns), **cut)


def without(served: Served, names: Collection[str]) -> Served:
    """The model as if it had never met these sensors: without their rows and statistics."""
    kept = NodeSet.of(tuple(name for name in served.ids if name not in names))
    forecaster = copy.deepcopy(served.forecaster)
    with seeded(0):
        forecaster.expand(kept)
    scaler = served.scaler.for_nodes(kept)
    others = {name: found for name, found in scaler.others.items() if name not in names}
    aside = served.aside - set(names)
    return replace(served, ids=kept.ids, aside=aside, forecaster=forecaster, scaler=replace(scaler, others=others))


def unheard(series: Series, names: Collection[str], *, before: int | None = None) -> Series:
    """The same with no reading of these sensors before a step; by default with none at all."""
    columns = [row for row, name in enumerate(series.ids) if name in names]
    values, flags = series.tensor.values.copy(), series.tensor.flags.copy()
    until = len(values) if before is None else max(before, 0)
    values[:until, columns], flags[:until, columns] = 0.0, MISSING
    return replace(series, tensor=replace(series.tensor, values=values, flags=flags))


def weights_of(served: Served, names: Sequence[str], series: Series, graph_of: GraphOf) -> Floats:
    """(M, N): weights of the edges by which new sensors gather from those that the model knows; 0 elsewhere."""
    ids = (*served.ids, *names)
    new = list(range(len(served.ids), len(ids)))
    weights = edge_weights(graph_of(ids, series.period), new, old=len(served.ids)).numpy()
    found = np.zeros((len(names), len(series.ids)), dtype=np.float32)
    rows = series.rows(served.ids)
    found[:, rows[rows >= 0]] = weights[:, rows >= 0]
    return found


def borrowed_points(served: Served, series: Series, issued: Steps, weights: Floats, graph_of: GraphOf) -> Floats:
    """(S, H, M) of sensors without readings: the mean of their neighbours' forecasts, weighted by the edges.

    Each neighbour's forecast is the best there is. NaN without neighbours.

    Args:
        weights: (M, N).
    """
    known = np.broadcast_to(np.isin(series.ids, served.ids), (len(issued), len(series.ids)))
    points = climb(series, served, issued, known, graph_of).chosen
    there = np.isfinite(points) & known[:, None]
    total = np.einsum("shn,mn->shm", np.where(there, points, 0.0), weights)
    share = np.einsum("shn,mn->shm", there.astype(np.float64), weights)
    return np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan).astype(np.float32)


def young_points(
    served: Served, series: Series, issued: Steps, names: Sequence[str], graph_of: GraphOf, *, days: int
) -> Floats:
    """(S, H, M) of sensors that were heard first so many days before the first issue time, as the pipeline makes them.

    Args:
        served: without these sensors.
        days: at least 1.
    """
    columns = series.rows(names)
    young = unheard(series, names, before=int(issued[0]) + 1 - days * series.config.steps_per_day)
    members = np.broadcast_to(np.isin(series.ids, list(names)), (len(issued), len(series.ids)))
    enough = members & heard_enough(young, issued)
    return joined_points(served, young, issued, members, graph_of, enough=enough)[:, :, columns]


def issue_days(series: Series, tested: tuple[int, int]) -> list[Steps]:
    """Last steps read of a test part's forecasts, day by day: some days if they are many, some times of each.

    Args:
        tested: UTC seconds of the part's first and last step.
    """
    config = series.config
    day = config.steps_per_day
    first, last = (int(step) for step in np.searchsorted(series.tensor.times, tested))
    first, last = first + config.window - 1, last - config.horizon
    starts = spaced(torch.arange(first, max(last - day + 2, min(first, last) + 1), day), MOST_DAYS)
    spread = np.arange(0, day, max(1, day // ISSUES))
    days = [start + spread[start + spread <= last] for start in starts.tolist()]
    return [steps for steps in days if len(steps)]


def candidates(served: Served, series: Series, days: Sequence[Steps]) -> tuple[str, ...]:
    """Known sensors that can be hidden, some of them if they are many: heard at most steps, from four weeks before."""
    if len(served.ids) < 2 or not days:
        return ()
    back = max(AGES) * series.config.steps_per_day
    steps = slice(max(0, int(days[0][0]) - back), int(days[-1][-1]) + series.config.horizon + 1)
    share = series.tensor.observed[steps, :, 0].mean(0)
    found = [name for name, own in zip(series.ids, share, strict=True) if own >= HEARD and name in set(served.ids)]
    return tuple(found[row] for row in spaced(torch.arange(len(found)), MOST_SENSORS).tolist())


def groups(served: Served, names: Sequence[str], graph: Graph) -> list[tuple[str, ...]]:
    """Sensors that are hidden together: never neighbours, so that each keeps all of its own.

    Args:
        graph: of the sensors that the model knows.
    """
    joined = {(served.ids[row], served.ids[column]) for row, column in zip(*_ends(graph), strict=True)}
    most = max(1, len(served.ids) // TOGETHER)
    found: list[list[str]] = []
    for name in names:
        apart = (
            own
            for own in found
            if len(own) < most and not any((name, one) in joined or (one, name) in joined for one in own)
        )
        if (group := next(apart, None)) is None:
            found.append([name])
        else:
            group.append(name)
    return [tuple(own) for own in found]


def hide(
    served: Served,
    series: Series,
    days: Sequence[Steps],
    hidden: Sequence[tuple[str, ...]],
    graph_of: GraphOf,
    *,
    ages: Sequence[int] = AGES,
) -> Trial:
    """Hide groups of sensors and give them back at every age.

    Args:
        days: issue times, day by day; an age is that at the first of a day.
    """
    issued, names = np.concatenate(days), tuple(name for group in hidden for name in group)
    columns = series.rows(names)
    enough = heard_enough(series, issued)[:, None, columns]
    by_group: list[list[Floats]] = [[] for _ in ages]
    for group in hidden:
        less = without(served, group)
        for place, age in enumerate(ages):
            if age:
                made = [young_points(less, series, steps, group, graph_of, days=age) for steps in days]
                by_group[place].append(np.concatenate(made))
            else:
                weights = weights_of(less, group, series, graph_of)
                by_group[place].append(borrowed_points(less, unheard(series, group), issued, weights, graph_of))
    truth, future = Truth.of(series), series.future(issued).numpy()
    measured = np.where(truth.scored[future], truth.truth[future], np.nan)[:, :, columns]
    return Trial(
        ages=tuple(ages),
        ids=names,
        points=np.where(enough, np.stack([np.concatenate(own, axis=2) for own in by_group]), np.nan),
        known=np.where(enough, known_points(served, series, issued, graph_of)[:, :, columns], np.nan),
        weekly=past(series, issued).season[:, :, columns],
        truth=measured,
        slot=truth.slot[future],
    )


def heard_enough(series: Series, issued: Steps) -> Bools:
    """(S, N): sensors that a model is asked for, by the observed share of their windows."""
    seen = np.concatenate([np.zeros((1, len(series.ids)), int), series.tensor.observed[..., 0].cumsum(0)])
    window = series.config.window
    return np.asarray(seen[issued + 1] - seen[np.maximum(issued + 1 - window, 0)] >= ENOUGH * window)


def _ends(graph: Graph) -> tuple[list[int], list[int]]:
    return graph.row.tolist(), graph.column.tolist()
