"""ARIMA of each sensor alone, by Kalman filter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from st_pipeline.evaluation.baselines.base import Baseline, Panel, Values
from st_pipeline.registry import BASELINES

CELLS_PER_PARAMETER = 5  # a sensor with fewer observed cells in the training part is not fitted
ITERATIONS = 100  # of the search for parameters


class _Filtered(NamedTuple):
    """A filter's way through a series: the forecast of step h issued at t is rows[h - 1] @ states[:, t + 1]."""

    rows: Values  # (H, K) design times powers of the transition
    states: Values  # (K, L + 1) predicted from the values before each step


@BASELINES.register
class Arima(Baseline):
    """ARIMA(p, d, q) without constant, since the values are standardised; order (3, 0, 1) as in DCRNN's tables.

    Parameters have the largest likelihood of the training part; the filter then goes once over all steps and skips
    cells without an observation. A sensor that cannot be fitted is forecast as its average.

    Args:
        order: p, d, q.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        order: Annotated[Sequence[Annotated[int, Field(ge=0, le=24)]], Field(min_length=3, max_length=3)] = (3, 0, 1),
    ) -> None:
        self.order = tuple(order)
        self.horizon = panel.horizon
        self.notes = {}
        self.sensors = [self._filtered(panel, column) for column in range(panel.values.shape[1])]
        self.facts = {"order": list(order), "fitted": sum(sensor is not None for sensor in self.sensors)}

    def forecasts(self, issued: NDArray[np.int64]) -> Values:
        found = np.zeros((len(issued), self.horizon, len(self.sensors)))
        for column, sensor in enumerate(self.sensors):
            if sensor is not None:
                found[..., column] = (sensor.rows @ sensor.states[:, issued + 1]).T
        return found

    def _filtered(self, panel: Panel, column: int) -> _Filtered | None:
        """A sensor's filter with fitted parameters; None, and a note, where there is none."""
        series = panel.values[:, column]
        least = CELLS_PER_PARAMETER * (self.order[0] + self.order[2] + 1)
        cells = int(np.isfinite(series[: panel.train]).sum())
        if cells < least:
            self.notes[column] = f"its average: {cells} observed training cells, ARIMA needs {least}"
            return None
        try:
            filtered, converged = _fit(series, panel.train, self.order, self.horizon)
        except (np.linalg.LinAlgError, ValueError) as error:
            self.notes[column] = f"its average: no fit, {' '.join(str(error).split())}"
            return None
        if not all(np.isfinite(part).all() for part in filtered):
            self.notes[column] = "its average: the fitted filter is not finite"
            return None
        if not converged:
            self.notes[column] = f"ARIMA, whose parameters had not converged after {ITERATIONS} iterations"
        return filtered


def _fit(series: Values, train: int, order: tuple[int, ...], horizon: int) -> tuple[_Filtered, bool]:
    """Fit on the first `train` steps of a series (L,), filter all of it; and whether the search has converged."""
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    model = SARIMAX(series[:train], order=order)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="statsmodels")  # what they say is in `converged`
        fitted = model.fit(disp=0, maxiter=ITERATIONS, cov_type="none", low_memory=True)
        found = model.clone(series).filter(fitted.params, cov_type="none", return_ssm=True)
    transition, row = found.transition[..., 0], found.design[..., 0]
    rows = [row]
    for _ in range(1, horizon):
        rows.append(rows[-1] @ transition)
    return _Filtered(np.concatenate(rows), np.array(found.predicted_state)), bool(fitted.mle_retvals["converged"])
