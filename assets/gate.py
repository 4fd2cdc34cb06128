"""The gate inside an asset: its verdict as asset checks, and a failure before anything is written."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import polars as pl

from assets.common import StreamAssets, table
from st_pipeline.data.verdict import Severity, Verdict

CHECKS = {
    "critical_expectations": "Expectations that must hold: if one fails, nothing is written.",
    "warning_expectations": "Expectations that should hold: a failure is shown and stops nothing.",
}
LEVELS: dict[str, Severity] = {"critical_expectations": "critical", "warning_expectations": "warning"}


def gate_checks(of: StreamAssets, asset: str, *, per_period: bool = True) -> list[dg.AssetCheckSpec]:
    """The checks that an asset's own suite yields."""
    partitions = of.partitions if per_period else None
    return [
        dg.AssetCheckSpec(name, asset=of.key(asset), description=text, partitions_def=partitions)
        for name, text in CHECKS.items()
    ]


def check_results(verdict: Verdict, key: dg.AssetKey) -> Iterator[dg.AssetCheckResult]:
    """One asset check per severity, with a table of its expectations."""
    for name, level in LEVELS.items():
        findings = verdict.of(level)
        failed = [finding for finding in findings if not finding.passed]
        rows = [{"expectation": item.expectation, "passed": item.passed, "found": item.found} for item in findings]
        frame = pl.DataFrame(rows, schema={"expectation": pl.String, "passed": pl.Boolean, "found": pl.String})
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=key,
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if level == "critical" else dg.AssetCheckSeverity.WARN,
            description="; ".join(f"{item.expectation}: {item.found}" for item in failed) or "all hold",
            metadata={"expectations": len(findings), "failed": len(failed), "table": table(frame, rows=200)},
        )


def refuse(verdict: Verdict) -> None:
    """Stop before anything is written if a critical expectation failed."""
    if verdict.failures:
        raise dg.Failure(
            description=f"{verdict.sentence()}; nothing was written",
            metadata={"failed": [item.expectation for item in verdict.failures]},
            allow_retries=False,
        )
