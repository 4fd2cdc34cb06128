"""Tests that say whether one forecaster is better than another by more than chance would make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from st_pipeline.errors import InputError

RECTANGULAR, BARTLETT = "rectangular", "bartlett"


class TestResult(NamedTuple):
    """A two-sided test of a mean of zero; `kernel` weighs the autocovariances in its variance."""

    statistic: float
    p_value: float
    mean: float
    kernel: str


class RankTest(NamedTuple):
    """A test of equal ranks, and the mean rank of each model (M,), 1 is best."""

    statistic: float
    p_value: float
    mean_ranks: NDArray[np.float64]


def diebold_mariano(difference: NDArray[np.float64] | Sequence[NDArray[np.float64]], *, horizon: int) -> TestResult:
    """Test of equal accuracy on a loss differential (n,), or one per period, in order of issue time.

    Diebold and Mariano 1995 with the small-sample correction of Harvey, Leybourne and Newbold 1997 (eq. 5 and 9) and
    Student's t of n - 1 degrees. The variance adds horizon - 1 autocovariances, of pairs within one period, with equal
    weights; where that is not positive, with Bartlett's (Newey and West 1987). The correction makes the variance of
    white noise unbiased for whichever pairs and weights are in it: eq. 9 is the case of one period and equal weights.

    Args:
        horizon: steps by which forecasts overlap, plus one: h of an h-step forecast.

    Raises:
        InputError: a difference is not finite, or there are not more windows than horizon steps.
    """
    periods = [difference] if isinstance(difference, np.ndarray) else [np.asarray(part) for part in difference]
    if any(part.ndim != 1 for part in periods):
        raise InputError("A loss differential has more than one axis; expected one number per window.")
    every = np.concatenate(periods) if periods else np.empty(0)
    require_finite(every, "A loss differential")
    n, mean = len(every), float(every.mean()) if len(every) else 0.0
    if not 0 < horizon < n:
        raise InputError(
            f"A loss differential of {n} windows cannot be tested at horizon {horizon}; "
            "expected a horizon of at least 1 and more windows than horizon steps: test a longer part."
        )
    if not every.any():
        return TestResult(0.0, 1.0, 0.0, RECTANGULAR)
    centred = [part - mean for part in periods]
    products = np.array(
        [sum(part[lag:] @ part[: len(part) - lag] for part in centred if len(part) > lag) for lag in range(horizon)]
    )
    pairs = np.array([sum(max(len(part) - lag, 0) for part in periods) for lag in range(horizon)])
    weights, kernel = np.where(np.arange(horizon) == 0, 1.0, 2.0), RECTANGULAR
    if not weights @ products > 0:
        weights, kernel = weights * (1 - np.arange(horizon) / horizon), BARTLETT
    variance = max(float(weights @ products), 0.0) / n**2
    correction = 1 - float(weights @ pairs) / n**2
    statistic = mean * float(np.sqrt(correction / variance)) if variance else float(np.copysign(np.inf, mean))
    return TestResult(statistic, 2 * float(stats.t.sf(abs(statistic), n - 1)), mean, kernel)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values (M,) adjusted for M tests by the step-down method of Holm 1979, in the order given."""
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"Of {len(values)} p-values at least one is not within 0 and 1; adjust those of tests made.")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return adjusted


def friedman(errors: ArrayLike) -> RankTest:
    """Do models differ over streams? errors (streams, models); ties share their mean rank.

    Chi-square form with the correction for ties (Friedman 1937; Demsar 2006, section 3.2.2).

    Raises:
        InputError: fewer than 2 streams or models, or an error is missing.
    """
    table = np.asarray(errors, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        shape = " x ".join(map(str, table.shape))
        raise InputError(
            f"The Friedman test got errors of {shape} (streams x models); it ranks models over streams, so it needs "
            "at least 2 of each: run more streams, or compare the models of one stream in pairs."
        )
    require_finite(table, "The table of errors by stream and model")
    streams, models = table.shape
    ranks = stats.rankdata(table, axis=1)
    middle = (models + 1) / 2
    spread = float(((ranks - middle) ** 2).sum())
    between = float(((ranks.sum(axis=0) - streams * middle) ** 2).sum())
    statistic = (models - 1) * between / spread if spread else 0.0
    return RankTest(statistic, float(stats.chi2.sf(statistic, models - 1)), ranks.mean(axis=0))


def nemenyi_difference(models: int, streams: int, level: float = 0.95) -> float:
    """Critical difference of mean ranks: two models further apart differ (Nemenyi 1963; Demsar 2006, section 3.2.2).

    Args:
        level: confidence over all pairs, 0.95 for tests at 5 %.
    """
    require_level(level)
    if models < 2 or streams < 2:
        raise InputError(f"Ranks of {models} models on {streams} streams say nothing; expected at least 2 of each.")
    quantile = stats.studentized_range.ppf(level, models, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(models * (models + 1) / (6 * streams)))


def require_finite(values: NDArray[np.float64], what: str) -> None:
    """Refuse NaN and infinity: a missing number is no number to test."""
    if bad := int((~np.isfinite(values)).sum()):
        raise InputError(f"{what} holds {bad} values of {values.size} that are not finite; leave out what is missing.")


def require_level(level: float) -> None:
    """Refuse what is no confidence level, above all a significance level in its place."""
    if not 0.5 <= level < 1:
        raise InputError(f"level is {level}; expected a confidence level such as 0.95, at least 0.5 and below 1.")
