"""The period matrix: error of the model after period i on the test part of period j, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.evaluation.rows import PUBLISHED, over_seeds


@dataclass(frozen=True)
class PeriodMatrix:
    """R[i, j], errors (P, P): row i is the model after period i, column j the test period; NaN where not scored.

    Above the diagonal only what the model before a period makes of it is known, R[j - 1, j].
    """

    periods: tuple[str, ...]
    errors: NDArray[np.float64]

    @classmethod
    def of(
        cls, scores: pl.DataFrame, *, metric: str = "mae", horizon: str = PUBLISHED, cohort: str = "all"
    ) -> PeriodMatrix:
        """From the tidy rows of one model; several seeds enter with their mean."""
        rows = scores.filter(
            (pl.col("metric") == metric) & (pl.col("horizon") == horizon) & (pl.col("cohort") == cohort)
        )
        periods = tuple(sorted({*rows["period"].to_list(), *rows["trained_through"].to_list()}))
        place = {key: index for index, key in enumerate(periods)}
        errors = np.full((len(periods), len(periods)), np.nan)
        for through, period, value in over_seeds(rows).select("trained_through", "period", "value").iter_rows():
            errors[place[through], place[period]] = np.nan if value is None else value
        return cls(periods, errors)

    @property
    def forgetting(self) -> float | None:
        """Mean over earlier periods of the last error minus the best before it: negative where the last is the best.

        (Chaudhry et al. 2018, for errors.)
        """
        best = np.array([_least(self.errors[j:-1, j]) for j in range(len(self.periods))])
        return _mean((self._last - best)[:-1])

    @property
    def backward_transfer(self) -> float | None:
        """Mean over earlier periods of the last error minus the error right after learning that period.

        (Lopez-Paz and Ranzato 2017, for errors: negative is improvement, positive is forgetting.)
        """
        return _mean((self._last - np.diag(self.errors))[:-1])

    @property
    def plasticity(self) -> float | None:
        """Mean over later periods of what learning a period took off its error, R[j - 1, j] - R[j, j]."""
        return _mean(np.diag(self.errors, 1) - np.diag(self.errors)[1:])

    def forward_transfer(self, baseline: Mapping[str, float]) -> float | None:
        """Mean over later periods of the error before learning the period minus a baseline's: negative is better.

        (Lopez-Paz and Ranzato 2017, for errors.)

        Args:
            baseline: error by period of a forecast that learns nothing, such as the weekly naive one.
        """
        base = np.array([baseline.get(period, np.nan) for period in self.periods[1:]])
        return _mean(np.diag(self.errors, 1) - base)

    @property
    def _last(self) -> NDArray[np.float64]:
        """(P,) errors of the newest model."""
        return self.errors[-1] if len(self.errors) else np.empty(0)


def _least(column: NDArray[np.float64]) -> float:
    known = column[~np.isnan(column)]
    return float(known.min()) if len(known) else float("nan")


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
