"""Each rule finds what it should, at its threshold, and nothing else."""

from __future__ import annotations

import shutil
from collections import namedtuple
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from st_pipeline.alerts import heartbeat, rules
from st_pipeline.forecasting.scores import SCHEMA

NOW = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def scores(mae: list[float], naive: float = 2.0, coverage: float = 0.9) -> pl.DataFrame:
    """Scores of days in a row; a cohort beside `all` that would change every answer."""
    days = [date(2024, 4, 1) + timedelta(days=step) for step in range(len(mae))]
    own = pl.DataFrame({"day": days, "mae": mae}).with_columns(
        naive_weekly_mae=pl.lit(naive), coverage_90=pl.lit(coverage), cohort=pl.lit("all"), cells=4, interval_cells=4
    )
    other = own.with_columns(mae=100 - pl.col("mae"), coverage_90=pl.lit(0.1), cohort=pl.lit("first_month"))
    rows = pl.concat([own, other])
    whole = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in rows)
    return whole.select(*SCHEMA).cast(SCHEMA)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mae", "found"), [([1, 3, 3, 3], 1), ([3, 3, 1], 0), ([3, 1, 3, 3], 0), ([3, 3], 0), ([2, 2, 2], 0)]
)
def test_three_days_above_the_naive_error(mae: list[float], found: int) -> None:
    assert len(rules.degradation("small", scores([float(x) for x in mae]))) == found


@pytest.mark.parametrize(("share", "found"), [(0.84, 1), (0.86, 0), (0.94, 0), (0.96, 1)])
def test_coverage_leaves_its_band(share: float, found: int) -> None:
    assert len(rules.coverage("small", scores([1.0] * 7, coverage=share))) == found
    assert rules.coverage("small", scores([1.0] * 6, coverage=share)) == []


def test_absence_counts_from_the_newest(tmp_path: Path) -> None:
    assert rules.nothing_arrived("small", NOW - 3 * HOUR, NOW, 3 * HOUR) == []
    assert "since 2024-04-30 20:00 UTC" in rules.nothing_arrived("small", NOW - 4 * HOUR, NOW, 3 * HOUR)[0].message
    assert "at all" in rules.nothing_arrived("small", None, NOW, HOUR)[0].message


def test_two_missed_issue_times() -> None:
    assert rules.no_forecast("small", NOW - 2 * HOUR, NOW, HOUR) == []
    assert rules.no_forecast("small", NOW - 2.1 * HOUR, NOW, HOUR)[0].key == "no_forecast:small"


def test_sensors_that_are_long_silent_are_named() -> None:
    assert rules.silent_sensors("small", {"a": 1}) == []
    (found,) = rules.silent_sensors("small", {"a": 1, "c": 2, "b": 5})
    assert "2 sensors" in found.message and "b, c" in found.message


def test_little_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    for free, found in ((rules.LEAST_DISK - 1, 1), (rules.LEAST_DISK, 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10 << 30, 0, free))
        assert len(rules.disk(tmp_path / "not" / "there")) == found


def test_the_daemon_is_down_when_its_heart_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_HOME", str(tmp_path))
    assert "never" in heartbeat.daemon_down(1000.0)[0].message
    heartbeat.beat(1000.0)
    assert heartbeat.daemon_down(1000.0 + heartbeat.MOST) == []
    assert "6 minutes ago" in heartbeat.daemon_down(1360.0)[0].message
