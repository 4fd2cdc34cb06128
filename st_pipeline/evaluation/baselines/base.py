"""What a baseline is given and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """The target of one period's sensors, those that have statistics of their own in its training part.

    Attributes:
        values: (L, M) standardised per sensor by the training part; NaN where nothing was observed.
        train: steps of the training part, the first ones.
        horizon: H.
        day: steps of a day.
    """

    values: Values
    train: int
    horizon: int
    day: int


class Baseline(ABC):
    """A forecaster that is fitted when it is made: parameters from the training part, states from what is past.

    Attributes:
        notes: column -> what is to be said of that sensor's fit.
        facts: of the fit as a whole, as JSON can hold them.
    """

    notes: dict[int, str]
    facts: dict[str, Any]

    @abstractmethod
    def forecasts(self, issued: NDArray[np.int64]) -> Values:
        """(B, H, M) standardised forecasts; each reads the values up to and including its issue step, no later one."""
