"""Who drives when: daily and weekly profiles, holidays, events, growth and random variation.

Time runs in days that begin at 03:00, with an hour of warm-up before; slices of five minutes are counted from 02:00.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from st_pipeline.simulation.network import City
from st_pipeline.simulation.traffic import Floats

SLICE_MINUTES = 5
WARM_UP_SLICES = 12
DAY_SLICES = 288
HOURS = 2 + (np.arange(WARM_UP_SLICES + DAY_SLICES) + 0.5) * SLICE_MINUTES / 60  # since midnight, (K,)

HOLIDAYS = {(1, 1), (1, 6), (5, 1), (10, 3), (12, 25), (12, 26)}  # (month, day)
SATURDAY, SUNDAY, HOLIDAY = 5, 6, 7
WEEKDAY_LEVEL = (0.97, 0.99, 1.0, 1.02, 1.04)
PEAKS = {"inbound": (0.60, 0.22), "outbound": (0.20, 0.58), "local": (0.44, 0.44)}  # morning, evening


def day_type(day: date) -> int:
    """0 to 6 for Monday to Sunday, 7 for a public holiday."""
    return HOLIDAY if (day.month, day.day) in HOLIDAYS else day.weekday()


def profile(kind: str, day: int) -> Floats:
    """Demand over a day of a type, (K,), as a part of the busiest hour of a plain working day."""
    if day in (SATURDAY, SUNDAY, HOLIDAY):
        return _free_day(kind, day)
    morning, evening = PEAKS[kind]
    friday = day == 4
    rush = morning * (0.9 if friday else 1.0) * _bump(7.7, 0.85)
    home = evening * _bump(16.4 if friday else 17.1, 1.55 if friday else 1.25)
    return WEEKDAY_LEVEL[day] * (_night(0.030) + 0.40 * _plateau(5.9, 20.2) + rush + home)


def _free_day(kind: str, day: int) -> Floats:
    out, back = (0.06, 0.0) if day == SATURDAY else (0.0, 0.16 if kind == "inbound" else 0.05)
    level = {SATURDAY: 0.51, SUNDAY: 0.46, HOLIDAY: 0.40}[day]
    evening = out * _bump(24.5, 1.5) + back * _bump(18.3, 1.3)
    return _night(0.032) + level * _plateau(8.8, 20.0) + 0.10 * _bump(13.5, 2.0) + evening


def _bump(at: float, width: float) -> Floats:
    curve: Floats = np.exp(-0.5 * ((HOURS - at) / width) ** 2)
    return curve


def _plateau(begin: float, end: float) -> Floats:
    curve: Floats = 1 / (1 + np.exp(-(HOURS - begin) / 0.45)) / (1 + np.exp((HOURS - end) / 1.15))
    return curve


def _night(level: float) -> Floats:
    return level * (1 + 0.5 * np.cos((HOURS - 14) * np.pi / 12))


def daily_arrivals(city: City, days: Sequence[date], *, growth: Floats, rng: np.random.Generator) -> Floats:
    """Vehicles that reach each origin in each slice of each day, (K, O, D); `growth` (O, D) scales them."""
    kinds = sorted(PEAKS)
    table = np.array([[profile(kind, day) for day in range(8)] for kind in kinds])
    which = np.array([kinds.index(origin.kind) for origin in city.origins])
    shape = table[which[:, None], np.array([day_type(day) for day in days])]  # (O, D, K)
    peak = np.array([origin.peak for origin in city.origins])[:, None]
    level = peak * growth * day_to_day(len(city.origins), len(days), rng)
    demand = np.moveaxis(shape * level[:, :, None], 2, 0) * within_day(len(city.origins), len(days), rng)
    arrivals: Floats = (demand + _events(city, len(days), rng)) * SLICE_MINUTES / 60
    return arrivals


def day_to_day(origins: int, days: int, rng: np.random.Generator) -> Floats:
    """Random level of every origin and day, (O, D): a slow wave of the whole city and a variation of each origin."""
    wave = np.empty(days)
    height = rng.normal(0, 0.03)
    for day in range(days):
        wave[day] = height
        height = 0.7 * height + rng.normal(0, 0.02)
    level: Floats = np.exp(wave + rng.normal(0, 0.04, size=(origins, days)))
    return level


def within_day(origins: int, days: int, rng: np.random.Generator) -> Floats:
    """Random level of every slice, (K, O, D): noise at half-hour knots, joined by straight lines."""
    knot = 30 // SLICE_MINUTES
    knots = rng.normal(1.0, 0.07, size=(len(HOURS) // knot + 2, origins, days))
    whole, part = np.divmod(np.arange(len(HOURS)), knot)
    weight = (part / knot)[:, None, None]
    joined: Floats = knots[whole] * (1 - weight) + knots[whole + 1] * weight
    return joined


def _events(city: City, days: int, rng: np.random.Generator) -> Floats:
    """Extra demand in veh/h, (K, O, D): about one event a week, people arrive on two radials and leave on them late."""
    extra = np.zeros((len(HOURS), len(city.origins), days))
    radials = [index for index, origin in enumerate(city.origins) if origin.kind == "inbound"]
    for _ in range(rng.poisson(days / 7)):
        day, begin, size = rng.integers(days), rng.choice([14.0, 19.0, 20.0]), rng.uniform(500, 1100)
        for index in rng.choice(radials, size=2, replace=False):
            radial = city.origins[index].radial
            home = next(
                o for o, origin in enumerate(city.origins) if origin.kind == "outbound" and origin.radial == radial
            )
            extra[:, index, day] += size * _bump(begin - 0.8, 0.45)
            extra[:, home, day] += size * _bump(begin + 2.6, 0.35)
    return extra
