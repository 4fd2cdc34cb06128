"""The gate: from tables to verdicts in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from checks.gate import ExpectationGate, judge
from checks.suites import Expected
from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import clean
from st_pipeline.data.summaries import network_summary, raw_summary, sensor_summary
from st_pipeline.data.verdict import Verdict
from st_pipeline.readers.base import SENSOR_SCHEMA

MakeStream = Callable[..., StreamConfig]
DAY = {"every": "1d", "start": "2024-01-01", "end": "2024-01-02"}
GATE = ExpectationGate()


def sensors(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{**dict.fromkeys(SENSOR_SCHEMA), **row} for row in rows], schema=SENSOR_SCHEMA)


def failed(verdict: Verdict) -> dict[str, str]:
    return {finding.expectation: finding.found for finding in verdict.findings if not finding.passed}


@pytest.mark.parametrize(
    "table",
    [
        sensors(),
        sensors({"sensor_id": "a", "x": 1.0, "y": 2.0}, {"sensor_id": "b", "x": 2.0, "y": 2.0}),
        sensors({"sensor_id": "a", "latitude": 1.0, "longitude": 2.0, "installed": date(2024, 1, 1)}),
        sensors(
            {"sensor_id": "a", "x": 1.0, "y": 2.0, "installed": date(2024, 1, 1), "retired": date(2024, 1, 1)},
            {"sensor_id": "a", "x": 1.0, "y": 2.0, "valid_from": date(2024, 2, 1)},
        ),
    ],
)
def test_good_sensor_tables_pass(make_stream: MakeStream, table: pl.DataFrame) -> None:
    verdict = GATE.sensors(make_stream(), table)
    assert verdict.suite == "small sensors"
    assert failed(verdict) == {}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"sensor_id": "a", "latitude": 1.0}], "a position for every sensor"),
        ([{"sensor_id": "a", "x": 1.0, "longitude": 1.0}], "a position for every sensor"),
        ([{"sensor_id": "a"}, {"sensor_id": "b"}], "a position for every sensor"),
        ([{"sensor_id": name, "x": 1.0, "y": 2.0} for name in "ab"], "no two sensors at one place"),
        ([{"sensor_id": "a", "x": float(x), "y": 2.0} for x in (1, 2)], "each sensor once, or once per valid_from"),
        (
            [{"sensor_id": "a", "x": 1.0, "y": 1.0, "installed": date(2024, 1, 2), "retired": date(2024, 1, 1)}],
            "no sensor retired before it was installed",
        ),
    ],
)
def test_what_is_wrong_with_a_sensor_table_is_told(make_stream: MakeStream, rows: list[Any], words: str) -> None:
    assert list(failed(GATE.sensors(make_stream(), sensors(*rows)))) == [words]


@pytest.fixture
def judged(make_stream: MakeStream) -> Callable[..., tuple[Verdict, Verdict]]:
    """Verdicts on raw and on clean readings of two sensors in one day, each given by its hourly values."""

    def make(a: list[Any], b: list[Any], **gate: float) -> tuple[Verdict, Verdict]:
        stream = make_stream(periods=DAY, variables={"flow": {"minimum": 0, "maximum": 100}}, gate=gate)
        rows = [
            (name, datetime(2024, 1, 1, hour), flow)
            for name, own in (("a", a), ("b", b))
            for hour, flow in enumerate(own)
        ]
        schema = {"sensor_id": pl.String, "timestamp": pl.Datetime("ms"), "flow": pl.Float64}
        raw = pl.DataFrame(rows, schema=schema, orient="row")
        period = stream.calendar.periods()[0]
        readings = clean(raw, stream, period)
        table = sensors({"sensor_id": "a"}, {"sensor_id": "b"})
        summary = sensor_summary(readings, table, stream)
        return (
            GATE.raw_readings(stream, raw_summary(raw, stream, period)),
            GATE.readings(stream, network_summary(readings, stream), summary),
        )

    return make


def test_good_readings_pass(judged: Callable[..., tuple[Verdict, Verdict]]) -> None:
    raw, readings = judged([0.0] * 24, [50.0] * 24)
    assert failed(raw) == failed(readings) == {}
    assert (raw.suite, readings.suite) == ("small raw readings", "small readings")


def test_faulty_readings_shut_the_gate_as_the_stream_says(judged: Callable[..., tuple[Verdict, Verdict]]) -> None:
    values = [-1.0] * 24, [-1.0] * 12 + [50.0] * 12
    _, verdict = judged(*values)
    assert verdict.sentence() == (
        "small readings: expected at most 50% of the landed flow out of range, stuck or spikes; found faulty = 0.75"
    )
    assert len(verdict.of("warning")) == 3
    assert not judged(*values, critical_faulty=0.8)[1].failures
    assert judged([0.0] * 23 + [-1.0], [0.0] * 24, critical_faulty=0.02)[1].failures


def test_a_silent_sensor_is_a_warning_and_a_silent_network_shuts_the_gate(
    judged: Callable[..., tuple[Verdict, Verdict]],
) -> None:
    raw, readings = judged([0.0] * 24, [None] * 24)
    assert not raw.failures + readings.failures
    assert failed(raw) == {"at most 50% rows without flow": "1 of 2: b (1)"}
    assert failed(readings) == {"at most 50% of a sensor missing": "1 of 2: b (1)"}
    silent = judged([None] * 24, [None] * 24)[1]
    assert [finding.expectation for finding in silent.failures] == ["at most 95% of the network's flow missing"]


def test_a_period_without_rows_shuts_the_gate(judged: Callable[..., tuple[Verdict, Verdict]]) -> None:
    raw, readings = judged([], [])
    assert raw.sentence() == "small raw readings: expected rows of at least one sensor; found 0"
    assert "at least one sensor" in readings.sentence()


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_an_expectation_that_cannot_be_evaluated_is_a_critical_failure(severity: Any) -> None:
    item = Expected("a column", "ExpectColumnValuesToNotBeNull", {"column": "gone"}, severity)
    verdict = judge("suite", pl.DataFrame({"sensor_id": ["a"]}), [item])
    assert verdict.failures
    assert "could not be evaluated" in verdict.sentence()
    assert "gone" in verdict.sentence()


def test_only_the_first_culprits_are_named() -> None:
    item = Expected("few", "ExpectColumnValuesToBeBetween", {"column": "x", "min_value": 0, "max_value": 0})
    table = pl.DataFrame({"sensor_id": [f"s{number}" for number in range(30)], "x": [1.23456789] * 30})
    (finding,) = judge("suite", table, [item]).findings
    assert finding.found == "30 of 30: s0, s1, s2, s3, s4 (1.235, 1.235, 1.235, 1.235, 1.235)"
