"""The result of a check that warns and stops nothing."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg


def warning(passed: bool, numbers: Mapping[str, float | None], *, missing: str) -> dg.AssetCheckResult:
    """A verdict with the numbers that are known; `missing` says why where one is not."""
    known = {name: round(value, 4) for name, value in numbers.items() if value is not None}
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if len(known) == len(numbers) else missing,
        metadata=known,
    )
