"""Quantiles of the forecasts of a period, in the order in which they are issued and their truth arrives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st_pipeline.data.protocols import SOUND
from st_pipeline.data.windows import spaced
from st_pipeline.evaluation.naive import DAYS_PER_WEEK
from st_pipeline.forecasting.conformal import LEVELS, Intervals, Residuals
from st_pipeline.forecasting.ladder import LAST, MODEL, NEIGHBOUR, SEASONAL, Ladder
from st_pipeline.forecasting.points import Bools, Floats, GraphOf, Steps, known_points, past
from st_pipeline.forecasting.series import Series
from st_pipeline.forecasting.served import Served

GROUPS = ((MODEL, NEIGHBOUR), (SEASONAL,), (LAST,))  # tiers that share their intervals
FALLBACK_EVERY = 5  # the intervals of what stands in for the model learn every so many forecasts, whole
FALLBACK = slice(None, None, 4)  # of the issue times, that the intervals of what stands in are calibrated on
MOST = 400  # issue times that intervals are calibrated on


@dataclass(frozen=True, eq=False)
class Truth:
    """What was measured: truth (L, N), scored (L, N) and the slot of the week (L,) of every step."""

    truth: Floats
    scored: Bools
    slot: Steps

    @classmethod
    def of(cls, series: Series) -> Truth:
        arrays = series.arrays(series.ids, SOUND)
        return cls(arrays.truth.numpy(), arrays.scored.numpy(), series.slot_of_week(arrays))


def tested_steps(series: Series, tested: tuple[int, int] | None) -> Steps:
    """(S,) last steps read of the forecasts that lie in a test part, some of them if they are many.

    Args:
        tested: UTC seconds of the part's first and last step; None for none.
    """
    if tested is None:
        return np.zeros(0, dtype=np.int64)
    first, last = np.searchsorted(series.tensor.times, tested)
    found = torch.arange(first + series.config.window - 1, max(first, last - series.config.horizon + 1))
    return spaced(found, MOST).numpy() if len(found) else found.numpy()


def residuals(
    series: Series, served: Served | None, truth: Truth, tested: tuple[int, int] | None, graph_of: GraphOf
) -> tuple[Residuals, ...]:
    """Of each of `GROUPS` on a test part: forecasts of every sensor with their truth."""
    issued = tested_steps(series, tested)
    found = past(series, issued)
    if served:
        model = known_points(served, series, issued, graph_of)
    else:
        model = np.full(found.season.shape, np.nan, dtype=np.float32)
    last = np.broadcast_to(found.last[:, None], found.season.shape)
    future = series.future(issued).numpy()
    seen = truth.scored[future]
    made = []
    for points, part in ((model, slice(None)), (found.season, FALLBACK), (last, FALLBACK)):
        own, real = (array[part].astype(np.float64) for array in (np.nan_to_num(points), truth.truth[future]))
        made.append(Residuals(own, real, (seen & np.isfinite(points))[part], truth.slot[future][part], series.ids))
    return tuple(made)


def quantiles(
    series: Series,
    ladder: Ladder,
    issued: Steps,
    wanted: Bools,
    living: Bools,
    *,
    calibration: tuple[Residuals, ...],
    truth: Truth,
) -> Floats:
    """(W, H, N, Q) of the wanted issue times: before each, what has arrived since the one before it is learned.

    NaN where there is no point forecast, or nothing is known of its errors.

    Args:
        issued: (S,) last steps read of all forecasts of the period up to the last that is wanted.
        wanted: (S,).
        living: (S, N).
    """
    count, steps = int(wanted.sum()), series.config.horizon
    found = np.full((count, steps, len(series.ids), len(LEVELS)), np.nan, dtype=np.float32)
    for tiers, points, known in zip(GROUPS, ladder.points, calibration, strict=True):
        used = np.isin(ladder.tier, tiers) & living[:, None]
        if not used[wanted].any():
            continue
        intervals = Intervals.calibrate(
            known, series.ids, slots_per_week=DAYS_PER_WEEK * series.config.steps_per_day, levels=LEVELS
        )
        walk = _Walk(intervals, points, issued, truth, series.config.issue_steps)
        learnable = used if MODEL in tiers else np.isfinite(points)
        places = np.cumsum(wanted) - 1
        for now in range(len(issued)):
            if MODEL in tiers:
                walk.learn_arrived(now, learnable)
            elif (now - walk.longest) % FALLBACK_EVERY == 0:
                walk.learn_whole(now - walk.longest, learnable)
            if wanted[now] and used[now].any():
                own, place = walk.quantiles(now), places[now]
                found[place] = np.where(used[now][..., None], own, found[place])
    return found


class _Walk:
    """The forecasts of one group through the issue times of a period."""

    def __init__(self, intervals: Intervals, points: Floats, issued: Steps, truth: Truth, every: int) -> None:
        self.intervals, self.issued, self.truth = intervals, issued, truth
        self.points = np.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0)
        self.ahead = np.arange(points.shape[1])
        self.back = -(-(self.ahead + 1) // every)  # issues until the target of a step is over

    @property
    def longest(self) -> int:
        """Issues until all targets of a forecast are over."""
        return int(self.back[-1])

    def learn_arrived(self, now: int, learnable: Bools) -> None:
        """What has arrived since the issue before: of each step, that of one earlier forecast."""
        at = np.maximum(now - self.back, 0)
        target = self.issued[at] + self.ahead + 1
        arrived = self.truth.scored[target] & learnable[at, self.ahead] & (now >= self.back)[:, None]
        self._learn(self.points[at, self.ahead], target, arrived)

    def learn_whole(self, at: int, learnable: Bools) -> None:
        """All of one earlier forecast, whose targets are over."""
        if at >= 0:
            target = self.issued[at] + self.ahead + 1
            self._learn(self.points[at], target, self.truth.scored[target] & learnable[at])

    def _learn(self, points: Floats, target: Steps, arrived: Bools) -> None:
        truth = self.truth.truth[target].astype(np.float64)
        self.intervals.learn(points.astype(np.float64), self.truth.slot[target], truth, arrived)

    def quantiles(self, now: int) -> Floats:
        """(H, N, Q)."""
        slot = self.truth.slot[self.issued[now] + self.ahead + 1]
        return self.intervals.quantiles(self.points[now].astype(np.float64), slot).astype(np.float32)
