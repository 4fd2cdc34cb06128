"""From measurements and faults to rows as the archive receives them, and to the truth behind them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time

import numpy as np
import polars as pl

from st_pipeline.simulation.detectors import Sample
from st_pipeline.simulation.faults import CORRECTION_HOURS, DUPLICATE, FAULTS, LATE, OUTAGE, Faulty
from st_pipeline.simulation.scenario import Scenario
from st_pipeline.simulation.traffic import Ints

SLOWEST_S = 20  # a row normally arrives 2 to 20 seconds after its interval ends
LATEST_H = 19  # a late row arrives 1 to 19 hours after its period
TIME = pl.Datetime("ms")


def milliseconds(day: date) -> int:
    """Midnight UTC as milliseconds since 1970."""
    return int((datetime.combine(day, time()) - datetime(1970, 1, 1)).total_seconds() * 1000)


def truth_rows(sample: Sample, faulty: Faulty, scenario: Scenario) -> pl.DataFrame:
    """What was really measured in a period: sensor_id, timestamp, flow, speed, fault; ordered by sensor and time."""
    column, row = np.nonzero(sample.alive.T)
    faults = pl.Series(FAULTS, dtype=pl.String).gather(faulty.fault[row, column].astype(np.uint32))
    return _rows(row, column, sample, scenario).with_columns(faults.alias("fault"))


def received_rows(
    sample: Sample, faulty: Faulty, *, scenario: Scenario, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that arrive in time, not yet in order, and rows that arrive after the period.

    Columns: sensor_id, timestamp, flow, speed, received.
    """
    begin, end = (milliseconds(scenario.period_start(sample.period + more)) for more in (0, 1))
    step = scenario.step_minutes * 60_000
    delay = rng.integers(2, SLOWEST_S + 1, size=sample.flow.shape) * 1000
    arrival = begin + (np.arange(1, len(delay) + 1) * step)[:, None] + delay
    wait = rng.integers(3600, CORRECTION_HOURS * 3600, size=delay.shape) * 1000
    flush = end + rng.integers(1, LATEST_H, size=delay.shape[1]) * 3_600_000 + delay

    reported = replace(sample, flow=faulty.flow, speed=faulty.speed)
    copied = (faulty.fault == DUPLICATE) & ~faulty.corrected
    parts = [
        (sample.alive & ~np.isin(faulty.fault, (OUTAGE, LATE)), reported, arrival),
        (copied, reported, arrival),
        (faulty.corrected, sample, arrival + wait),
        (faulty.fault == LATE, sample, flush),
    ]
    frames = []
    for mask, source, received in parts:
        row, column = np.nonzero(mask)
        times = pl.Series("received", received[row, column]).cast(TIME)
        frames.append(_rows(row, column, source, scenario).with_columns(times))
    return pl.concat(frames[:3]), frames[3]


def _rows(row: Ints, column: Ints, sample: Sample, scenario: Scenario) -> pl.DataFrame:
    begin = milliseconds(scenario.period_start(sample.period))
    ids = pl.Series([detector.sensor_id for detector in sample.detectors], dtype=pl.String)
    return pl.DataFrame(
        {
            "sensor_id": ids.gather(column.astype(np.uint32)),
            "timestamp": pl.Series(begin + row * scenario.step_minutes * 60_000).cast(TIME),
            "flow": sample.flow[row, column].astype(np.float32),
            "speed": sample.speed[row, column].astype(np.float32),
        }
    )
