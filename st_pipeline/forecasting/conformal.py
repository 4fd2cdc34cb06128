"""Honest quantiles of point forecasts: split conformal at the start, tracked as truth arrives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st_pipeline.forecasting.local_scale import Bools, Floats, Ints, LocalScale

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
FOLDS = 5  # blocks of time, each normalised by the scale of the others
SHRINK = 100.0  # residuals of its own with which a sensor is half itself and half the group
STEP, GROUP_STEP = 0.03, 0.1  # in scales: of a sensor, and of the group for all its sensors together
EAGER = 4.0  # times its step that a sensor moves further while it is new
WIDE = 2.0  # times the quantiles of a Laplace distribution, before anything is known of the errors


@dataclass(frozen=True)
class Residuals:
    """Out-of-sample forecasts with their truth, in order of issue.

    point, truth (S, H, N) in the unit of the readings; scored (S, H, N); slot (S, H), slot of the week of each target
    step; ids (N,).
    """

    point: Floats
    truth: Floats
    scored: Bools
    slot: Ints
    ids: tuple[str, ...]


class Intervals:
    """Quantiles of one model's forecasts: split conformal at the start, adapted as truth arrives.

    A quantile is point + scale * (group + own): the scale is that of the forecast's size, sensor and time of the
    week, group (H, 1, Q) is shared by all sensors, own (H, N, Q) is a sensor's deviation from it, 0 for a new one.
    """

    def __init__(self, scale: LocalScale, group: Floats, own: Floats, count: Floats, levels: Floats) -> None:
        self.scale, self.group, self.own, self.count, self.levels = scale, group, own, count, levels

    @classmethod
    def calibrate(
        cls, residuals: Residuals, ids: tuple[str, ...], *, slots_per_week: int, levels: Sequence[float] = LEVELS
    ) -> Intervals:
        """Intervals of the sensors `ids`; those that have no residuals are as the group.

        Without any residual all quantiles are NaN until something has been learned, and wide at first.
        """
        wanted = np.asarray(levels, dtype=np.float64)
        error, seen = _errors(residuals.point, residuals.truth, residuals.scored)
        point, slot = np.asarray(residuals.point, dtype=np.float64), np.asarray(residuals.slot)
        score = np.where(seen, error / _scale_of_others(point, slot, np.abs(error), seen, slots_per_week), np.nan)
        horizon = point.shape[1]
        pooled = split_quantiles(score.transpose(0, 2, 1).reshape(-1, horizon), wanted)[:, None]  # (H, 1, Q)
        pooled = _widened(pooled, score, wanted)
        own = split_quantiles(score, wanted)  # (H, N, Q)
        count = seen.sum(0).astype(np.float64)
        share = (count / (count + SHRINK))[..., None]
        deviation = np.where(np.isnan(own), 0.0, share * (own - pooled))
        rows = {name: row for row, name in enumerate(residuals.ids)}
        place = np.array([rows.get(name, -1) for name in ids], dtype=np.int64)  # a new sensor is the row added last
        deviation = np.concatenate([deviation, np.zeros((horizon, 1, len(wanted)))], axis=1)[:, place]
        count = np.concatenate([count, np.zeros((horizon, 1))], axis=1)[:, place]
        scale = LocalScale.fit(point, slot, np.abs(error), seen, slots_per_week=slots_per_week)
        return cls(scale.for_sensors(place), pooled, deviation, count, wanted)

    def quantiles(self, point: Floats, slot: Ints) -> Floats:
        """(H, N, Q) of a forecast (H, N) for steps in the slots of the week (H,): sorted, NaN if nothing is known."""
        centre = np.asarray(point, dtype=np.float64)
        scale = self.scale.of(centre, np.asarray(slot))
        return np.sort(centre[..., None] + scale[..., None] * (self.group + self.own), axis=-1)

    def learn(self, point: Floats, slot: Ints, truth: Floats, scored: Bools) -> None:
        """Take in the truth (H, N) of one earlier forecast, in order of arrival.

        Each quantile q of level b moves by step * (b - [score <= q]), so that in the long run a share b of the scores
        lies below it whatever they do (quantile tracking: Angelopoulos, Candes & Tibshirani 2023, section 2; Gibbs &
        Candes 2021, equation 2, moves the level in the same way). The group moves by the mean over its sensors.

        Args:
            scored: the cells that have just arrived.
        """
        due = np.flatnonzero(np.asarray(scored).any(axis=1))
        error, seen = _errors(point[due], truth[due], scored[due])
        if not seen.any():
            return
        centre, when = np.asarray(point[due], dtype=np.float64), np.asarray(slot)[due]
        self.scale.move_on(when)
        if not np.isnan(self.scale.mean):
            self._track(due, error / self.scale.of(centre, when), seen)
        self.scale.learn(centre, when, np.abs(error), seen)

    def _track(self, due: Ints, score: Floats, seen: Bools) -> None:
        below = score[..., None] <= self.group[due] + self.own[due]
        move = np.where(seen[..., None], self.levels - below, 0.0)  # (D, N, Q)
        young = SHRINK / (SHRINK + self.count[due])[..., None]
        self.own[due] += STEP * (1 + EAGER * young) * move
        self.group[due] += GROUP_STEP * move.sum(1, keepdims=True) / np.maximum(seen.sum(1), 1)[:, None, None]
        self.count[due] += seen


def split_quantiles(scores: Floats, levels: Floats) -> Floats:
    """Conformal quantiles over the first axis, NaN left out: (S, ...) -> (..., Q).

    Of n scores, the one of rank ceil(b (n + 1)) for a level b above one half, floor(b (n + 1)) below, their mean at
    one half; NaN where there is no such rank.
    """
    if not len(scores):
        return np.full((*scores.shape[1:], len(levels)), np.nan)
    ordered = np.sort(scores, axis=0)  # NaN last
    count = np.isfinite(scores).sum(0)[..., None]
    rank = levels * (count + 1)
    up, down = np.ceil(rank - 1e-9), np.floor(rank + 1e-9)
    return (
        _ranked(ordered, np.where(levels < 0.5, down, up), count)
        + _ranked(ordered, np.where(levels > 0.5, up, down), count)
    ) / 2


def _ranked(ordered: Floats, rank: Floats, count: Ints) -> Floats:
    there = (rank >= 1) & (rank <= count)
    place = np.moveaxis(np.where(there, rank - 1, 0).astype(np.int64), -1, 0)
    return np.where(there, np.moveaxis(np.take_along_axis(ordered, place, axis=0), 0, -1), np.nan)


def _errors(point: Floats, truth: Floats, scored: Bools) -> tuple[Floats, Bools]:
    """Truth minus forecast, 0 where it does not count, and where it does."""
    difference = np.asarray(truth, dtype=np.float64) - np.asarray(point, dtype=np.float64)
    seen = np.asarray(scored, dtype=bool) & np.isfinite(difference)
    return np.where(seen, difference, 0.0), seen


def _scale_of_others(point: Floats, slot: Ints, size: Floats, seen: Bools, slots_per_week: int) -> Floats:
    """Scales (S, H, N), each block of time's from the residuals of the other blocks: none has its own error in it."""
    scale = np.full(point.shape, np.nan)
    blocks = np.array_split(np.arange(len(point)), FOLDS)
    for block in blocks:
        others = np.setdiff1d(np.arange(len(point)), block)
        if seen[block].any() and seen[others].any():
            fitted = LocalScale.fit(
                point[others], slot[others], size[others], seen[others], slots_per_week=slots_per_week
            )
            scale[block] = fitted.of(point[block], slot[block])
    return scale


def _widened(pooled: Floats, score: Floats, levels: Floats) -> Floats:
    """The group's quantiles; where there are too few scores for a level, beyond all scores and wide."""
    tail = np.minimum(levels, 1 - levels)
    wide = WIDE * np.where(levels < 0.5, np.log(2 * tail), -np.log(2 * tail))
    if np.isfinite(score).any():
        found = score[np.isfinite(score)]
        wide = np.where(levels < 0.5, np.minimum(wide, found.min()), np.maximum(wide, found.max()))
        wide = np.where(levels == 0.5, 0.0, wide)
    return np.where(np.isnan(pooled), wide, pooled)
