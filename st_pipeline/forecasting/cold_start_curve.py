"""What a trial with hidden sensors says: error and coverage by days of readings, and an interval for none."""

from __future__ import annotations

from typing import Any

import numpy as np

from st_pipeline.evaluation.naive import DAYS_PER_WEEK
from st_pipeline.forecasting.cold_start import Trial
from st_pipeline.forecasting.conformal import LEVELS, Intervals, Residuals
from st_pipeline.forecasting.points import Bools, Floats

MIDDLE = (0.25, 0.75)  # of the hidden sensors


def curve(trial: Trial, known: Residuals, *, steps_per_day: int) -> list[dict[str, Any]]:
    """One row an age, over the cells that the model, the weekly naive and the known sensors have a forecast of.

    Keys: days; mae, weekly_mae, known_mae in the unit of the readings; times_weekly, times_known; low, high (quartiles
    over sensors of each one's times_weekly); coverage (share of truths within 90 % intervals of the known sensors, as
    they are before they have learned of the new one); sensors, forecasts, cells. What nothing is known of is None.

    Args:
        known: of the sensors that the model knows, on the test part that their intervals are calibrated on.
    """
    intervals = Intervals.calibrate(known, ("",) * len(trial.ids), slots_per_week=DAYS_PER_WEEK * steps_per_day)
    return [_row(trial, place, intervals) for place in range(len(trial.ages))]


def expectation(rows: list[dict[str, Any]], days: int, unit: str) -> str:
    """The row of an age as a sentence; empty if it says nothing."""
    row = next((row for row in rows if row["days"] == days and row["mae"] is not None), None)
    if row is None:
        return ""
    when = f"after {days} day{'s' if days > 1 else ''} of readings" if days else "without any reading"
    return (
        f"{when} expect a mean absolute error of about {row['mae']:.4g}{f' {unit}' if unit else ''}: "
        f"{row['times_weekly']:.2f} times the weekly naive's (half of {row['sensors']} hidden sensors: "
        f"{row['low']:.2f} to {row['high']:.2f}), {row['times_known']:.2f} times that of known sensors"
    )


def cold_coverage(trial: Trial, *, steps_per_day: int) -> float | None:
    """Share of truths within the 90 % `cold_intervals`, each hidden sensor's held against those of the others."""
    inside = counted = 0
    for row in range(len(trial.ids) if len(trial.ids) > 1 else 0):
        others = trial.of_sensors([place for place in range(len(trial.ids)) if place != row])
        own, place = trial.of_sensors([row]), trial.ages.index(0)
        there = np.isfinite(own.points[place]) & np.isfinite(own.truth)
        inside += int(_inside(own, place, cold_intervals(others, steps_per_day=steps_per_day))[there].sum())
        counted += int(there.sum())
    return inside / counted if counted else None


def cold_intervals(trial: Trial, *, steps_per_day: int) -> Intervals:
    """Intervals of one sensor without readings: of the hidden ones as a group, by what was missed at age 0."""
    points, truth = trial.points[trial.ages.index(0)].astype(np.float64), trial.truth.astype(np.float64)
    scored = np.isfinite(points) & np.isfinite(truth)
    missed = Residuals(np.nan_to_num(points), np.nan_to_num(truth), scored, trial.slot, trial.ids)
    return Intervals.calibrate(missed, ("",), slots_per_week=DAYS_PER_WEEK * steps_per_day)


def _row(trial: Trial, place: int, intervals: Intervals) -> dict[str, Any]:
    error, known, weekly = (np.abs(one - trial.truth) for one in (trial.points[place], trial.known, trial.weekly))
    counted = np.isfinite(error) & np.isfinite(known) & np.isfinite(weekly)
    row: dict[str, Any] = {"days": trial.ages[place]}
    names = ("mae", "weekly_mae", "known_mae", "times_weekly", "times_known", "low", "high", "coverage")
    if counted.any():
        mae, naive, usual = (float(one[counted].mean()) for one in (error, weekly, known))
        low, high = _quartiles(error, weekly, counted)
        inside = _inside(trial, place, intervals)[counted]
        row |= {"mae": mae, "weekly_mae": naive, "known_mae": usual}
        row |= {"times_weekly": _ratio(mae, naive), "times_known": _ratio(mae, usual), "low": low, "high": high}
        row["coverage"] = float(inside.mean())
    else:
        row |= dict.fromkeys(names)
    sensors, forecasts = counted.any(axis=(0, 1)), counted.any(axis=1)
    return {**row, "sensors": int(sensors.sum()), "forecasts": int(forecasts.sum()), "cells": int(counted.sum())}


def _quartiles(error: Floats, weekly: Floats, counted: Bools) -> tuple[float, float]:
    own, naive = (np.where(counted, one, 0.0).sum((0, 1)) for one in (error, weekly))
    there = counted.any(axis=(0, 1)) & (naive > 0)
    low, high = np.quantile(own[there] / naive[there], MIDDLE) if there.any() else (np.nan, np.nan)
    return float(low), float(high)


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0 else float("nan")


def _inside(trial: Trial, place: int, intervals: Intervals) -> Bools:
    """(S, H, M): truths within the outermost quantiles."""
    low, high = LEVELS.index(min(LEVELS)), LEVELS.index(max(LEVELS))
    points = np.nan_to_num(trial.points[place]).astype(np.float64)
    quantiles = np.stack([intervals.quantiles(*one) for one in zip(points, trial.slot, strict=True)])
    return np.asarray((quantiles[..., low] <= trial.truth) & (trial.truth <= quantiles[..., high]))
