"""Time of day and day of week as channels beside the value, as HimNet, STAEformer and BasicTS keep them."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.arrays import Array

MONDAY = datetime(2024, 1, 1)
DAY = timedelta(days=1)


def calendar_of(day_share: Array, week_day: Array | None, where: str) -> tuple[datetime, timedelta]:
    """A first time and the step that fit the channels; the date is a guess, its weekday is not.

    Args:
        day_share: (L,) share of the day, in [0, 1).
        week_day: (L,) 0 for Monday to 6, or None.

    Raises:
        InputError: the channels are no clock.
    """
    if len(day_share) < 2 or not ((day_share >= 0) & (day_share < 1)).all():
        raise InputError(
            f"{where}: the time of day is not within [0, 1); expected shares of a day at two steps or more"
        )
    gaps = np.diff(day_share)
    rising = gaps[gaps > 0]
    if not len(rising):
        raise InputError(f"{where}: the time of day never rises; expected shares of a day")
    per_day = round(1 / float(np.median(rising)))
    first = round(float(day_share[0]) * per_day)
    slots = (first + np.arange(len(day_share))) % per_day
    if not np.allclose(day_share * per_day, slots, atol=0.01):
        raise InputError(f"{where}: the time of day does not go on by 1/{per_day} at each step; expected no gaps")
    if DAY % (step := DAY / per_day):
        raise InputError(f"{where}: the time of day has {per_day} steps a day; expected a number that divides a day")
    day = int(week_day[0]) if week_day is not None else 0
    if week_day is not None:
        days = (day + (first + np.arange(len(day_share))) // per_day) % 7
        if not (0 <= day <= 6 and np.allclose(week_day, days, atol=0.01)):
            raise InputError(f"{where}: the day of week does not follow the time of day; expected 0 (Monday) to 6")
    return MONDAY + timedelta(days=day) + first * step, step


def calendar_channels(times: Array, step: timedelta) -> tuple[Array, Array]:
    """(L,) share of the day and day of week (Monday 0) of datetime64[ms] times."""
    passed = times - times.astype("datetime64[D]")
    share = passed.astype("timedelta64[ms]").astype(np.float64) / (DAY / timedelta(milliseconds=1))
    per_day = DAY / step
    week_day = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    return np.round(share * per_day) / per_day, week_day.astype(np.float64)
