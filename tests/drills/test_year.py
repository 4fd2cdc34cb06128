"""The drill of a year, short: two periods, a kill and gc; what arrives when; and that growth is seen."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from drills import year
from drills.deliveries import Deliveries
from st_pipeline.simulation import Scenario

SCENARIO = Scenario(start=date(2024, 1, 1), periods=5, days=7, step_minutes=60, sensors=8, growth=1)


def test_two_periods_end_green(tmp_path: Path) -> None:
    found = year.drill(tmp_path, periods=2, days=7, tidy_every=2, told=lambda _: None)
    assert found.faults == []
    assert found.kills == 1
    assert [row["events"] for row in found.sizes] == [[], ["1 days missing"]]
    assert 0 < found.sizes[-1]["lake"] < 2 * year.MOST["lake"]


def test_what_is_held_back_arrives_a_period_later_with_a_corrected_row(tmp_path: Path) -> None:
    deliveries = Deliveries(SCENARIO, tmp_path / "all", tmp_path / "raw")
    events = [deliveries.arrive(number) for number in range(4)]
    assert events[:2] == [[], ["1 days missing"]]
    assert events[2][0].endswith(" silent")
    there = pl.read_parquet(tmp_path / "raw/readings" / f"{deliveries.periods[3]}.parquet")
    assert deliveries.arrive(4)[0].endswith(f"rows of {deliveries.periods[3]} came late")
    late = pl.read_parquet(tmp_path / "raw/readings" / f"{deliveries.periods[3]}.late.parquet")
    whole = pl.read_parquet(tmp_path / "all/readings" / f"{deliveries.periods[3]}.parquet")
    assert len(there) + len(late) == len(whole) + 1
    cell = ["sensor_id", "timestamp"]
    corrected = late.join(there, on=cell, suffix="_before").unique(cell)
    assert len(corrected) == 1
    assert (corrected["flow"] == corrected["flow_before"] / 2).all()


def test_growth_beyond_the_bound_is_seen() -> None:
    rows = [{"lake": 1.0, "dagster": 1.0}, {}, {"lake": 3.0, "dagster": 30.0}]
    assert year._growth(rows, 3) == ["dagster grew by 29.0 MiB in 2 periods; 6.0 each"]
    assert year._growth(rows[:1], 3) == ["1 of 3 periods"]
