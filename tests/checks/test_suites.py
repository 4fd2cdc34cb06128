"""Every expectation holds on good tables and fails, with its severity, on a table made to break it alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pytest

from checks.gate import judge
from checks.suites import Expected, network_suite, raw_suite, readings_suite, sensors_suite
from st_pipeline.config import StreamConfig
from st_pipeline.data.verdict import Finding

MakeStream = Callable[..., StreamConfig]
Suite = Callable[[StreamConfig], list[Expected]]
VARIABLES = {"flow": {"minimum": 0, "maximum": 100}, "speed": {"maximum": 200}}
SOURCE = {"format": "parquet", "readings": "r.parquet", "columns": {"flow": "q", "speed": "v"}}

SENSORS = {
    "sensor_id": ["a", "a", "b"],
    "valid_from": ["", "2024-01-05", ""],
    "latitude": [52.0, 52.1, None],
    "longitude": [13.0, 13.1, None],
    "days_in_service": [None, 0, 400],
    "placed": [True, True, True],
    "alone": [True, True, True],
}
RAW = {"sensor_id": ["a", "b"], "rows": [24, 20], "repeated": [0.05, 0.0], "empty": [0.5, 0.0], "outside": [0, 0]}
NETWORK = {"sensors": [1], "rows": [24], "unique": [True], "missing": [0.95], "faulty": [0.5]}
READINGS = {
    "sensor_id": ["a", "a", "b", "b"],
    "variable": ["flow", "speed", "flow", "speed"],
    "missing": [0.5, 0.0, 0.0, 0.0],
    "faulty": [0.1, 0.0, 0.0, 0.0],
    "lowest": [0.0, -50.0, None, 7.0],
    "highest": [100.0, 200.0, None, 150.0],
    "known": [True] * 4,
}
TABLES: dict[Suite, dict[str, list[Any]]] = {
    sensors_suite: SENSORS,
    raw_suite: RAW,
    network_suite: NETWORK,
    readings_suite: READINGS,
}
BROKEN: list[tuple[Suite, dict[str, list[Any]], str, str, str]] = [
    (sensors_suite, {"sensor_id": ["a", "a", None]}, "every sensor has an id", "critical", "1 of 3: no sensor_id"),
    (sensors_suite, {"valid_from": ["", "", ""]}, "each sensor once, or once per valid_from", "critical", "2 of 3: a"),
    (sensors_suite, {"latitude": [90.5, 52, 52]}, "latitudes between -90 and 90", "critical", "a (90.5)"),
    (sensors_suite, {"longitude": [13, 13, -181]}, "longitudes between -180 and 180", "critical", "b (-181)"),
    (sensors_suite, {"days_in_service": [0, 0, -1]}, "no sensor retired before it was installed", "critical", "b (-1)"),
    (sensors_suite, {"placed": [True, True, False]}, "a position for every sensor", "warning", "1 of 3: b"),
    (sensors_suite, {"alone": [False, True, False]}, "no two sensors at one place", "warning", "2 of 3: a, b"),
    (raw_suite, {"outside": [0, 3]}, "every row inside the period", "critical", "1 of 2: b (3)"),
    (raw_suite, {"sensor_id": ["a", None]}, "a sensor id in every row", "warning", "no sensor_id"),
    (raw_suite, {"repeated": [0.06, 0]}, "under 5 % repeated times of a sensor", "warning", "a (0.06)"),
    (raw_suite, {"empty": [0, 0.51]}, "at most 50% rows without flow", "warning", "b (0.51)"),
    (raw_suite, {name: [] for name in RAW}, "rows of at least one sensor", "critical", "0"),
    (network_suite, {"sensors": [0]}, "at least one sensor", "critical", "sensors = 0"),
    (network_suite, {"unique": [False]}, "every sensor, time and copy once", "critical", "unique = False"),
    (network_suite, {"missing": [0.96]}, "at most 95% of the network's flow missing", "critical", "missing = 0.96"),
    (
        network_suite,
        {"faulty": [0.51]},
        "at most 50% of the landed flow out of range, stuck or spikes",
        "critical",
        "faulty = 0.51",
    ),
    (readings_suite, {"known": [True, True, False, False]}, "every sensor in the sensor table", "warning", "2 of 4: b"),
    (readings_suite, {"missing": [0, 0, 0.6, 0]}, "at most 50% of a sensor missing", "warning", "b (0.6)"),
    (
        readings_suite,
        {"faulty": [0, 0, 0, 0.11]},
        "at most 10% of a sensor out of range, stuck or spikes",
        "warning",
        "b (0.11)",
    ),
    (readings_suite, {"lowest": [-1, 0, 0, -90]}, "no observed flow below 0", "critical", "a (-1)"),
    (readings_suite, {"highest": [9, 9, 101, 150]}, "no observed flow above 100", "critical", "b (101)"),
    (readings_suite, {"highest": [9, 300, 9, 150]}, "no observed speed above 200", "critical", "a (300)"),
]


@pytest.fixture(scope="module")
def stream(make_stream: MakeStream) -> StreamConfig:
    return make_stream(source=SOURCE, variables=VARIABLES)


def findings(suite: Suite, stream: StreamConfig, changes: Mapping[str, list[Any]] | None = None) -> dict[str, Finding]:
    good = TABLES[suite]
    table = pl.DataFrame({**good, **(changes or {})}, strict=False)
    table = table.cast({name: pl.Series(good[name]).dtype for name in good})
    return {found.expectation: found for found in judge("suite", table, suite(stream)).findings}


@pytest.mark.parametrize("suite", TABLES)
def test_good_tables_pass(suite: Suite, stream: StreamConfig) -> None:
    found = findings(suite, stream)
    assert len(found) == len(suite(stream))
    assert all(finding.passed for finding in found.values()), found


@pytest.mark.parametrize(("suite", "changes", "words", "severity", "culprit"), BROKEN)
def test_a_broken_table_fails_one_expectation(
    suite: Suite, changes: dict[str, list[Any]], words: str, severity: str, culprit: str, stream: StreamConfig
) -> None:
    found = findings(suite, stream, changes)
    assert [name for name, finding in found.items() if not finding.passed] == [words]
    assert found[words].severity == severity
    assert culprit in found[words].found


def test_every_expectation_is_broken_once(stream: StreamConfig) -> None:
    tried = {(suite, words) for suite, _, words, _, _ in BROKEN}
    assert tried == {(suite, expected.words) for suite in TABLES for expected in suite(stream)}


@pytest.mark.parametrize(
    ("suite", "setting", "column", "words"),
    [
        (raw_suite, "warn_missing", "empty", "at most {} rows without flow"),
        (network_suite, "critical_missing", "missing", "at most {} of the network's flow missing"),
        (network_suite, "critical_faulty", "faulty", "at most {} of the landed flow out of range, stuck or spikes"),
        (readings_suite, "warn_missing", "missing", "at most {} of a sensor missing"),
        (readings_suite, "warn_faulty", "faulty", "at most {} of a sensor out of range, stuck or spikes"),
    ],
)
def test_the_stream_file_sets_how_strict_the_gate_is(
    make_stream: MakeStream, suite: Suite, setting: str, column: str, words: str
) -> None:
    share = {column: [0.3, *TABLES[suite][column][1:]]}
    for limit, written, passed in ((0.299, "29.9%", False), (0.3, "30%", True), (1.0, "100%", True)):
        stream = make_stream(source=SOURCE, variables=VARIABLES, gate={setting: limit})
        assert findings(suite, stream, share)[words.format(written)].passed == passed


def test_a_variable_without_limits_has_no_expectation_of_them(make_stream: MakeStream) -> None:
    words = [item.words for item in readings_suite(make_stream(source=SOURCE, variables={"speed": {"minimum": 0.5}}))]
    assert [text for text in words if "observed" in text] == ["no observed speed below 0.5"]
