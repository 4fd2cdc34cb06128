"""Rules that look at results: degradation, coverage, absence, silence, disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.alerts.book import Finding
from st_pipeline.evaluation.forecast_means import ALL, HONEST, pooled

DAYS_BELOW_NAIVE = 3
COVERAGE_DAYS = 7
SILENT_PERIODS = 2
LATE_SLOTS = 2  # missed issue times after which forecasts count as missing
LEAST_DISK, LEAST_SHARE = 2 << 30, 0.05
SHOWN = 5


def by_day(scores: pl.DataFrame) -> pl.DataFrame:
    """Scores of the whole network on each day, all steps and tiers together."""
    return pooled(scores.filter(pl.col("cohort") == ALL), "day").sort("day")


def degradation(stream: str, scores: pl.DataFrame) -> list[Finding]:
    """The forecasts' error is above the naive one's on each of the last days."""
    last = by_day(scores).drop_nulls(["mae", "naive_weekly_mae"]).tail(DAYS_BELOW_NAIVE)
    if len(last) < DAYS_BELOW_NAIVE or not (last["mae"] > last["naive_weekly_mae"]).all():
        return []
    whole = pooled(last).row(0, named=True)
    found, naive = whole["mae"], whole["naive_weekly_mae"]
    text = f"{stream}: the forecasts' error ({found:.4g}) is above the naive one's ({naive:.4g}) for the last "
    return [Finding("below_naive", stream, "critical", f"{text}{DAYS_BELOW_NAIVE} scored days.")]


def coverage(stream: str, scores: pl.DataFrame) -> list[Finding]:
    """The share of truths inside the 90 % intervals leaves the band over the last days."""
    last = by_day(scores).drop_nulls("coverage_90").tail(COVERAGE_DAYS)
    if len(last) < COVERAGE_DAYS:
        return []
    share = pooled(last)["coverage_90"].item()
    least, most = HONEST
    if least <= share <= most:
        return []
    text = f"{stream}: the 90 % intervals held {share:.1%} of the truths over the last {COVERAGE_DAYS} scored days"
    return [Finding("coverage", stream, "warning", f"{text}, expected {least:.0%} to {most:.0%}.")]


def nothing_arrived(stream: str, newest: datetime | None, now: datetime, patience: timedelta) -> list[Finding]:
    """No raw file is new or changed for longer than `patience`."""
    if newest is not None and now - newest <= patience:
        return []
    since = f"since {newest:%Y-%m-%d %H:%M} UTC" if newest else "at all"
    text = f"{stream}: no raw file arrived {since}, expected one every {patience.total_seconds() / 3600:g} hours."
    return [Finding("nothing_arrived", stream, "critical", text)]


def no_forecast(stream: str, newest: datetime | None, now: datetime, every: timedelta) -> list[Finding]:
    """Two issue times passed without a forecast."""
    if newest is not None and now - newest <= LATE_SLOTS * every:
        return []
    since = f"since {newest:%Y-%m-%d %H:%M} UTC" if newest else "at all"
    text = f"{stream}: no forecast was issued {since}, expected one every {every}."
    return [Finding("no_forecast", stream, "critical", text)]


def silent_sensors(stream: str, silence: Mapping[str, int]) -> list[Finding]:
    """Sensors of the newest node set that were not heard for some whole periods."""
    long = sorted(name for name, periods in silence.items() if periods >= SILENT_PERIODS)
    if not long:
        return []
    shown = ", ".join(name[:40] for name in long[:SHOWN]) + (
        f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
    )
    text = f"{stream}: {len(long)} sensors have been silent for {SILENT_PERIODS} periods or more: {shown}."
    return [Finding("silent_sensors", stream, "warning", text)]


def disk(folder: Path) -> list[Finding]:
    """Little room is left where the results go."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    if usage.free >= max(LEAST_DISK, LEAST_SHARE * usage.total):
        return []
    text = f"{there} has {usage.free / (1 << 30):.1f} GiB free of {usage.total / (1 << 30):.0f} GiB."
    return [Finding("disk_low", "home", "critical", text)]
