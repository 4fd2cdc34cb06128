"""A verdict by severity, and in a sentence."""

from __future__ import annotations

from st_pipeline.data.verdict import Finding, Verdict

GOOD = Finding("a row", "critical", True, "3")
BAD = Finding("rows in the period", "critical", False, "2 of 3: a")
WORSE = Finding("an id", "critical", False, "1 of 3")
ODD = Finding("few gaps", "warning", False, "0.9")


def test_only_critical_failures_shut_the_gate() -> None:
    verdict = Verdict("readings", (GOOD, ODD, BAD))
    assert verdict.failures == [BAD]
    assert verdict.of("warning") == [ODD]
    assert verdict.of("critical") == [GOOD, BAD]
    assert not Verdict("readings", (GOOD, ODD)).failures
    assert not Verdict("readings", ()).failures


def test_the_sentence_names_the_first_failure_and_counts_the_others() -> None:
    assert Verdict("s", (GOOD, BAD)).sentence() == "s: expected rows in the period; found 2 of 3: a"
    assert Verdict("s", (BAD, ODD, WORSE)).sentence().endswith("found 2 of 3: a (and 1 more)")
