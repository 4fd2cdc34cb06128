"""Rows as received against the truth behind them."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from st_pipeline.simulation import Simulation

KEY = ["sensor_id", "timestamp"]


def compared(simulation: Simulation, period: int, fault: str) -> pl.DataFrame:
    """Truth cells with a fault beside the rows received in the same period; no row gives nulls."""
    made = simulation.periods[period]
    cells = made.truth.filter(pl.col("fault") == fault)
    return cells.join(made.readings, on=KEY, how="left", suffix="_raw", maintain_order="left_right")


def as_measured(rows: pl.DataFrame) -> pl.Series:
    return (rows["flow"] == rows["flow_raw"]) & (rows["speed"] == rows["speed_raw"])


@pytest.mark.parametrize("period", [0, 2, 4])
def test_sound_cells_arrive_once_as_measured(default: Simulation, period: int) -> None:
    rows = compared(default, period, "none")
    assert len(rows) == (default.periods[period].truth["fault"] == "none").sum()
    assert as_measured(rows).all()


@pytest.mark.parametrize("fault", ["outage", "late"])
def test_missing_cells_have_no_row_in_their_period(default: Simulation, fault: str) -> None:
    assert compared(default, 1, fault)["received"].null_count() == len(compared(default, 1, fault)) > 0


@pytest.mark.parametrize("fault", ["stuck", "spike", "out_of_range"])
def test_wrong_cells_arrive_once_and_differ_from_the_truth(default: Simulation, fault: str) -> None:
    rows = compared(default, 1, fault)
    assert len(rows) == (default.periods[1].truth["fault"] == fault).sum() > 0
    assert as_measured(rows).mean() < 0.02


def test_the_last_row_received_of_a_duplicate_is_right(default: Simulation) -> None:
    rows = compared(default, 1, "duplicate")
    cells = rows.group_by(KEY, maintain_order=True).agg(pl.len(), pl.all().sort_by("received").last())
    assert (cells["len"] == 2).all()
    assert as_measured(cells).all()
    first = rows.group_by(KEY, maintain_order=True).agg(pl.all().sort_by("received").first())
    same_time = first["received"] == cells["received"]
    assert 0.3 < same_time.mean() < 0.7
    assert (as_measured(first) == same_time).all()
    assert (cells["received"] - first["received"]).filter(~same_time).min() >= timedelta(hours=1)


def test_late_rows_are_in_the_next_file_as_measured(default: Simulation) -> None:
    before, after = default.periods[1], default.periods[2]
    late = before.truth.filter(pl.col("fault") == "late")
    rows = late.join(after.readings, on=KEY, suffix="_raw")
    assert len(rows) == len(late) > 0
    assert as_measured(rows).all()
    foreign = after.readings.filter(pl.col("timestamp") < after.start)
    assert len(foreign) == len(late)
    assert foreign["received"].dt.date().min() >= after.start


def test_files_are_in_the_order_of_arrival_and_close_soon_after_their_period(default: Simulation) -> None:
    step = timedelta(minutes=default.scenario.step_minutes)
    for number, period in enumerate(default.periods):
        received = period.readings["received"]
        assert received.is_sorted()
        assert (received >= period.readings["timestamp"] + step).all()
        closes = pl.lit(default.scenario.period_start(number + 1)).cast(pl.Datetime("ms")) + pl.duration(minutes=15)
        assert period.readings.select((pl.col("received") < closes).all()).item()
