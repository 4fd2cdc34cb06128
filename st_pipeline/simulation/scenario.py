"""What to simulate: the size of the sensor network, the calendar, and how often things go wrong."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta

import numpy as np

STEPS = (5, 10, 15, 20, 30, 60)  # minutes
MOST_SENSORS, MOST_DAYS = 2000, 1500


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A simulated stream. One with more periods extends one with fewer: the readings of the earlier periods are equal.

    (That holds until so many sensors call for a larger city.) The `_rate` settings are about the share of cells
    (sensor and step) with that fault. The city keeps UTC all year, so local days are UTC days.
    """

    seed: int = 7
    start: date = date(2024, 1, 1)
    periods: int = 5
    days: int = 28  # of a period
    step_minutes: int = 5
    sensors: int = 60  # in the first period
    growth: int = 6  # new sensors in every later period
    demand_growth: float = 0.02  # per period, of the first period's demand
    incidents_per_day: float = 2.0  # in a city of five radials; in proportion in others
    outage_rate: float = 0.02
    stuck_rate: float = 0.006
    spike_rate: float = 0.001
    out_of_range_rate: float = 0.001
    duplicate_rate: float = 0.004
    late_rate: float = 0.004

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**32 - 1),
            ("periods", 1, MOST_DAYS),
            ("days", 1, MOST_DAYS),
            ("sensors", 2, MOST_SENSORS),
            ("growth", 0, MOST_SENSORS),
            ("step_minutes", STEPS[0], STEPS[-1]),
        ):
            self._check(name, low, high, whole=True)
        self._check("demand_growth", -0.2, 0.5)
        self._check("incidents_per_day", 0, 100)
        for rate in (field.name for field in fields(self) if field.name.endswith("_rate")):
            self._check(rate, 0, 0.2)
        if self.step_minutes not in STEPS:
            raise ValueError(f"step_minutes is {self.step_minutes}; expected one of {', '.join(map(str, STEPS))}")
        if isinstance(self.start, datetime) or not isinstance(self.start, date) or not 1980 <= self.start.year <= 2200:
            raise ValueError(f"start is {self.start!r}; expected a datetime.date between the years 1980 and 2200")
        if self.sensors_ever > MOST_SENSORS:
            found = f"{self.sensors} sensors and {self.growth} more in each of {self.periods - 1} periods"
            raise ValueError(f"{found} make {self.sensors_ever}; expected at most {MOST_SENSORS}")
        if self.periods * self.days > MOST_DAYS:
            found = f"{self.periods} periods of {self.days} days"
            raise ValueError(f"{found} make {self.periods * self.days} days; expected at most {MOST_DAYS}")

    def _check(self, name: str, low: float, high: float, *, whole: bool = False) -> None:
        value = getattr(self, name)
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise ValueError(f"{name} is {value!r}; expected {'a whole' if whole else 'a'} number from {low} to {high}")

    @property
    def sensors_ever(self) -> int:
        return self.sensors + self.growth * (self.periods - 1)

    @property
    def steps(self) -> int:
        """Steps in a period."""
        return self.days * 24 * 60 // self.step_minutes

    def period_start(self, period: int) -> date:
        """First day of a period; of `periods` the day on which the stream ends."""
        return self.start + timedelta(days=self.days * period)

    def rng(self, purpose: str, period: int = 0) -> np.random.Generator:
        """The random numbers of one purpose in one period, independent of all others."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), period])
