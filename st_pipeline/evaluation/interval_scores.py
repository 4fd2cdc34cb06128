"""Scores of quantiles: how often an interval holds the truth, and the pinball loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def coverage(
    lower: Floats, upper: Floats, truth: Floats, scored: NDArray[np.bool_], *, axis: int | tuple[int, ...] | None = None
) -> Floats:
    """Share of the scored cells whose truth lies in [lower, upper], over the axes or all; NaN where none is scored.

    A cell without an interval (NaN) is not covered.
    """
    inside = (lower <= truth) & (truth <= upper) & scored
    with np.errstate(invalid="ignore"):
        return np.asarray(inside.sum(axis) / np.asarray(scored.sum(axis), dtype=np.float64))


def pinball(quantiles: Floats, truth: Floats, scored: NDArray[np.bool_], levels: Sequence[float]) -> Floats:
    """(Q,): mean pinball loss of quantiles (..., Q) over the scored cells (...), in the unit of the readings.

    NaN where nothing is scored.
    """
    losses = pinball_losses(quantiles[scored], truth[scored], levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(losses.sum(0) / np.float64(len(losses)))


def pinball_losses(quantiles: Floats, truth: Floats, levels: Sequence[float]) -> Floats:
    """(..., Q): pinball loss of each quantile (..., Q) of the truths (...), in the unit of the readings.

    A level b weighs a truth above its quantile b and one below it 1 - b (Koenker & Bassett 1978, equation 1.2).
    """
    weight = np.asarray(levels, dtype=np.float64)
    apart = truth[..., None] - quantiles
    return np.asarray(np.maximum(weight * apart, (weight - 1) * apart))
