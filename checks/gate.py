"""The gate: runs a suite with Great Expectations and says the verdict in words."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import polars as pl

from checks.suites import Expected, network_suite, raw_suite, readings_suite, sensors_suite
from st_pipeline.config import StreamConfig
from st_pipeline.data.verdict import Finding, Verdict

SHOWN = 5  # culprits named in a finding


class ExpectationGate:
    """`st_pipeline.data.verdict.Gate` with Great Expectations."""

    def sensors(self, stream: StreamConfig, sensors: pl.DataFrame) -> Verdict:
        """Judge the sensor table."""
        place = pl.concat_str(["latitude", "longitude", "x", "y"], separator=" ", ignore_nulls=True)
        facts = sensors.with_columns(
            (pl.col("retired") - pl.col("installed")).dt.total_days().alias("days_in_service"),
            (_both("latitude", "longitude") | _both("x", "y")).alias("placed"),
            ((place == "") | (pl.col("sensor_id").n_unique().over(place) == 1)).alias("alone"),
            pl.col("valid_from").cast(pl.String).fill_null(""),
        )
        return (
            judge(f"{stream.name} sensors", facts, sensors_suite(stream))
            if len(facts)
            else Verdict(f"{stream.name} sensors", ())
        )

    def raw_readings(self, stream: StreamConfig, summary: pl.DataFrame) -> Verdict:
        """Judge the raw readings by their summary."""
        return judge(f"{stream.name} raw readings", summary, raw_suite(stream))

    def readings(self, stream: StreamConfig, network: pl.DataFrame, sensors: pl.DataFrame) -> Verdict:
        """Judge the clean readings by the summaries of the network and of its sensors."""
        name = f"{stream.name} readings"
        whole = judge(name, network, network_suite(stream))
        if not len(sensors):
            return whole
        return Verdict(name, whole.findings + judge(name, sensors, readings_suite(stream)).findings)


def _both(one: str, other: str) -> pl.Expr:
    return pl.col(one).is_not_null() & pl.col(other).is_not_null()


@cache
def _batch_definition() -> Any:
    """One in-memory Great Expectations context per process."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    return (
        context.data_sources.add_pandas("tables")
        .add_dataframe_asset("table")
        .add_batch_definition_whole_dataframe("all")
    )


def judge(name: str, table: pl.DataFrame, expected: list[Expected]) -> Verdict:
    """Validate a table against expectations.

    An expectation that cannot be evaluated is a critical failure: a broken check is not a passed one.
    """
    import great_expectations as gx

    batch = _batch_definition().get_batch({"dataframe": table.to_pandas()})
    findings = []
    for item in expected:
        expectation = getattr(gx.expectations, item.kind)(**item.arguments, severity=item.severity)
        names = {"unexpected_index_column_names": [item.name]} if item.name else {}
        result = batch.validate(expectation, result_format={"result_format": "COMPLETE", **names})
        findings.append(_finding(item, result))
    return Verdict(name, tuple(findings))


def _finding(item: Expected, result: Any) -> Finding:
    if not result.success and (raised := _raised(result.exception_info)):
        return Finding(item.words, "critical", False, f"an expectation that could not be evaluated: {raised}")
    return Finding(item.words, item.severity, bool(result.success), _found(item, result.result))


def _raised(info: Any) -> str | None:
    """Message of an exception inside Great Expectations, wherever it put it."""
    if not isinstance(info, dict):
        return None
    for entry in (info, *info.values()):
        if isinstance(entry, dict) and entry.get("raised_exception") and entry.get("exception_message"):
            return str(entry["exception_message"]).splitlines()[0]
    return None


def _found(item: Expected, result: dict[str, Any]) -> str:
    if "observed_value" in result:
        return str(result["observed_value"])
    count = result.get("unexpected_count", 0)
    if not count:
        return f"{result.get('element_count', 0)} rows as expected"
    unexpected = result.get("partial_unexpected_list", [])[:SHOWN]
    values = [value for value in unexpected if not isinstance(value, bool | dict) and not _absent(value)]
    shown = ", ".join(_shown(value) for value in values)
    if item.name is None:
        return f"{item.arguments['column']} = {shown or False}"
    culprits = [entry.get(item.name) for entry in result.get("unexpected_index_list") or []]
    shown_names = (f"no {item.name}" if _absent(name) else str(name) for name in culprits[:SHOWN])
    names = ", ".join(dict.fromkeys(shown_names))
    return f"{count} of {result['element_count']}" + (f": {names}" if names else "") + (f" ({shown})" if shown else "")


def _absent(value: Any) -> bool:
    return value is None or value != value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
