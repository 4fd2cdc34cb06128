"""Vector autoregression of all sensors together, by ridge least squares."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import solve

from st_pipeline.evaluation.baselines.base import Baseline, Panel, Values
from st_pipeline.registry import BASELINES


@BASELINES.register
class Var(Baseline):
    """x_t = c + sum over i of A_i x_{t-i} on standardised values, rolled H steps; three lags as in DCRNN's tables.

    c and A minimise the mean over the training steps of the squared error plus `ridge` times the squared entries
    of A. A regression needs complete rows: an unobserved cell is the sensor's last observed value while that is at
    most a day old, then its average.

    Args:
        lags: i runs from 1 to this.
        ridge: 0 is ordinary least squares, of smallest norm where several fit alike.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        lags: Annotated[int, Field(ge=1, le=1000)] = 3,
        ridge: Annotated[float, Field(ge=0)] = 0.01,
    ) -> None:
        self.lags = lags
        self.horizon = panel.horizon
        self.filled = carried_forward(panel.values, at_most=panel.day)
        sensors = panel.values.shape[1]
        self.constant, self.weights = np.zeros(sensors), np.zeros((lags * sensors, sensors))
        self.notes = {}
        self.facts = {"lags": lags, "ridge": ridge, "rows": max(panel.train - lags, 0)}
        self.facts |= {"filled_share": round(float(np.isnan(panel.values).mean()), 6)}
        if panel.train > lags:
            self.constant, self.weights = fit(self.filled[: panel.train], lags, ridge)
        else:
            self.notes = dict.fromkeys(range(sensors), f"its average: no training step has {lags} steps before it")

    def forecasts(self, issued: NDArray[np.int64]) -> Values:
        before = np.concatenate([np.zeros((self.lags, self.filled.shape[1])), self.filled])
        recent = before[issued[:, None] + self.lags - np.arange(self.lags)]  # (B, lags, M), newest first
        steps = []
        with np.errstate(over="ignore", invalid="ignore"):  # what explodes is told by who takes the forecasts
            for _ in range(self.horizon):
                step = self.constant + recent.reshape(len(issued), -1) @ self.weights
                recent = np.concatenate([step[:, None], recent[:, :-1]], axis=1)
                steps.append(step)
        return np.stack(steps, axis=1)


def fit(values: Values, lags: int, ridge: float) -> tuple[Values, Values]:
    """Constant (M,) and weights (lags * M, M), those of lag 1 first, from complete values (L, M)."""
    target = values[lags:]
    design = np.concatenate([values[lags - lag : len(values) - lag] for lag in range(1, lags + 1)], axis=1)
    middle, level = design.mean(axis=0), target.mean(axis=0)
    design, target = design - middle, target - level
    if ridge:
        gram = design.T @ design / len(design)
        gram[np.diag_indices_from(gram)] += ridge
        weights = solve(gram, design.T @ target / len(design), assume_a="pos")
    else:
        weights = np.linalg.lstsq(design, target)[0]
    return level - middle @ weights, weights


def carried_forward(values: Values, *, at_most: int) -> Values:
    """Values (L, M) with every NaN the last value before it, at most that many steps old, or else 0."""
    steps = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, steps), axis=0)
    found = np.take_along_axis(values, last.clip(min=0), axis=0)
    return np.where((last >= 0) & (steps - last <= at_most), found, 0.0)
