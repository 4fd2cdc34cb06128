"""What a quality gate says about a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from st_pipeline.config import StreamConfig

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Finding:
    """Result of one expectation: what was expected, in words, and what was found."""

    expectation: str
    severity: Severity
    passed: bool
    found: str


@dataclass(frozen=True)
class Verdict:
    """Results of one suite on one table."""

    suite: str
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def failures(self) -> list[Finding]:
        """Critical expectations that failed: nothing may be written."""
        return [finding for finding in self.of("critical") if not finding.passed]

    def sentence(self) -> str:
        """Why the gate is shut, in one sentence."""
        first = self.failures[0]
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return f"{self.suite}: expected {first.expectation}; found {first.found}{more}"


class Gate(Protocol):
    """Runs the expectation suites; made in `checks`, used inside the assets that would write."""

    def sensors(self, stream: StreamConfig, sensors: pl.DataFrame) -> Verdict: ...

    def raw_readings(self, stream: StreamConfig, summary: pl.DataFrame) -> Verdict: ...

    def readings(self, stream: StreamConfig, network: pl.DataFrame, sensors: pl.DataFrame) -> Verdict: ...
