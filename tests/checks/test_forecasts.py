"""Asset checks on forecasts: none goes missing, intervals are honest, last week is beaten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from checks.forecasts import forecast_checks
from st_pipeline.config import StreamConfig
from st_pipeline.forecasting.scores import SCHEMA
from st_pipeline.streams import Stream

MODELS = [{"name": "one", "backbone": "stgnn", "strategy": "online"}]


@pytest.fixture
def checks(make_stream: Callable[..., StreamConfig]) -> dict[str, dg.AssetChecksDefinition]:
    made = forecast_checks(Stream(make_stream(models=MODELS), Path("nowhere")))
    return {key.name: check for check in made for key in check.check_keys}


def scores(**numbers: float | None) -> pl.DataFrame:
    plain = {"day": date(2024, 1, 1), "horizon": 1, "tier": "model", "cohort": "all", "cells": 9, "interval_cells": 9}
    return pl.DataFrame([{**plain, **numbers}], schema=SCHEMA)


def test_a_stream_without_models_has_no_such_checks(make_stream: Callable[..., StreamConfig]) -> None:
    assert forecast_checks(Stream(make_stream(), Path("nowhere"))) == []


@pytest.mark.parametrize(
    ("share", "passed"), [(0.84, False), (0.85, True), (0.9, True), (0.95, True), (0.96, False), (None, True)]
)
def test_intervals_hold_about_nine_tenths(checks: Any, share: float | None, passed: bool) -> None:
    result = checks["honest_intervals"](scores(coverage_90=share))
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


@pytest.mark.parametrize(
    ("own", "weekly", "passed"), [(1.0, 2.0, True), (2.0, 2.0, False), (3.0, 2.0, False), (1.0, None, True)]
)
def test_last_week_is_beaten(checks: Any, own: float, weekly: float | None, passed: bool) -> None:
    result = checks["forecasts_beat_weekly"](scores(mae=own, naive_weekly_mae=weekly))
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


def test_nothing_to_compare_is_no_failure(checks: Any) -> None:
    for name in ("honest_intervals", "forecasts_beat_weekly"):
        result = checks[name](pl.DataFrame(schema=SCHEMA))
        assert result.passed and "no truth has arrived" in result.description
