"""Expectation suites: what is expected of each table, in words and as Great Expectations.

Great Expectations is imported when a suite is built, because it takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from st_pipeline.config import StreamConfig
from st_pipeline.data.verdict import Severity


@dataclass(frozen=True)
class Expected:
    """One expectation: its Great Expectations class and arguments, how bad a failure is, and what it says in words.

    `name` is the column whose values name the culprits, e.g. `sensor_id`.
    """

    words: str
    kind: str
    arguments: dict[str, Any]
    severity: Severity = "critical"
    name: str | None = field(default="sensor_id")


def sensors_suite(stream: StreamConfig) -> list[Expected]:
    """Suite of the sensor table."""
    del stream
    pair = ["sensor_id", "valid_from"]
    return [
        Expected("every sensor has an id", "ExpectColumnValuesToNotBeNull", {"column": "sensor_id"}),
        Expected("each sensor once, or once per valid_from", "ExpectCompoundColumnsToBeUnique", {"column_list": pair}),
        Expected("latitudes between -90 and 90", "ExpectColumnValuesToBeBetween", _between("latitude", -90, 90)),
        Expected("longitudes between -180 and 180", "ExpectColumnValuesToBeBetween", _between("longitude", -180, 180)),
        Expected(
            "no sensor retired before it was installed",
            "ExpectColumnValuesToBeBetween",
            _between("days_in_service", 0, None),
        ),
        Expected("a position for every sensor", "ExpectColumnValuesToBeInSet", _in_set("placed", [True]), "warning"),
        Expected("no two sensors at one place", "ExpectColumnValuesToBeInSet", _in_set("alone", [True]), "warning"),
    ]


def raw_suite(stream: StreamConfig) -> list[Expected]:
    """Suite of the raw readings, one row per sensor."""
    gate = stream.gate
    return [
        Expected("rows of at least one sensor", "ExpectTableRowCountToBeBetween", {"min_value": 1}, name=None),
        Expected("every row inside the period", "ExpectColumnValuesToBeBetween", _between("outside", 0, 0)),
        Expected("a sensor id in every row", "ExpectColumnValuesToNotBeNull", {"column": "sensor_id"}, "warning"),
        Expected(
            "under 5 % repeated times of a sensor",
            "ExpectColumnValuesToBeBetween",
            _between("repeated", 0, 0.05),
            "warning",
        ),
        Expected(
            f"at most {_percent(gate.warn_missing)} rows without {stream.variable_names[0]}",
            "ExpectColumnValuesToBeBetween",
            _between("empty", 0, gate.warn_missing),
            "warning",
        ),
    ]


def network_suite(stream: StreamConfig) -> list[Expected]:
    """Suite of the clean readings of the whole network, one row."""
    gate, target = stream.gate, stream.variable_names[0]
    return [
        Expected("at least one sensor", "ExpectColumnValuesToBeBetween", _between("sensors", 1, None), name=None),
        Expected(
            "every sensor, time and copy once", "ExpectColumnValuesToBeInSet", _in_set("unique", [True]), name=None
        ),
        Expected(
            f"at most {_percent(gate.critical_missing)} of the network's {target} missing",
            "ExpectColumnValuesToBeBetween",
            _between("missing", 0, gate.critical_missing),
            name=None,
        ),
        Expected(
            f"at most {_percent(gate.critical_faulty)} of the landed {target} out of range, stuck or spikes",
            "ExpectColumnValuesToBeBetween",
            _between("faulty", 0, gate.critical_faulty),
            name=None,
        ),
    ]


def readings_suite(stream: StreamConfig) -> list[Expected]:
    """Suite of the clean readings, one row per sensor and variable."""
    gate = stream.gate
    expected = [
        Expected(
            "every sensor in the sensor table", "ExpectColumnValuesToBeInSet", _in_set("known", [True]), "warning"
        ),
        Expected(
            f"at most {_percent(gate.warn_missing)} of a sensor missing",
            "ExpectColumnValuesToBeBetween",
            _between("missing", 0, gate.warn_missing),
            "warning",
        ),
        Expected(
            f"at most {_percent(gate.warn_faulty)} of a sensor out of range, stuck or spikes",
            "ExpectColumnValuesToBeBetween",
            _between("faulty", 0, gate.warn_faulty),
            "warning",
        ),
    ]
    for name in stream.variable_names:
        rules = stream.rules(name)
        for column, low, high in (("lowest", rules.minimum, None), ("highest", None, rules.maximum)):
            if (limit := low if low is not None else high) is not None:
                words = f"no observed {name} {'below' if low is not None else 'above'} {limit:g}"
                arguments = {
                    **_between(column, low, high),
                    "row_condition": f'variable=="{name}"',
                    "condition_parser": "pandas",
                }
                expected.append(Expected(words, "ExpectColumnValuesToBeBetween", arguments))
    return expected


def _between(column: str, low: float | None, high: float | None) -> dict[str, Any]:
    return {"column": column, "min_value": low, "max_value": high}


def _in_set(column: str, values: list[Any]) -> dict[str, Any]:
    return {"column": column, "value_set": values}


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
