"""`drift` warns of a sensor that seems to measure in another unit, and of none otherwise."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets.network import _same_units
from st_pipeline.data.drift import SUSPECT_SCHEMA

KEY = dg.AssetKey(["net", "drift"])


@pytest.mark.parametrize(
    ("count", "passed", "told"), [(0, True, "no level"), (1, False, "s0 times 1.6"), (7, False, "and 2 more")]
)
def test_suspects_are_a_warning_with_what_to_do(count: int, passed: bool, told: str) -> None:
    rows: list[dict[str, Any]] = [
        {"sensor_id": f"s{place}", "ratio": 1.6, "factor": 1.609344, "between": "miles and kilometres"}
        for place in range(count)
    ]
    found = _same_units(KEY, pl.DataFrame(rows, schema=SUSPECT_SCHEMA))
    assert found.passed is passed and found.severity == dg.AssetCheckSeverity.WARN
    assert told in (found.description or "")
    assert passed or "say so with unit_factor and valid_from" in (found.description or "")
