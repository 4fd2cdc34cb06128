"""The stream as a whole, in memory and as files."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from st_pipeline.simulation import Scenario, Simulation, simulate, write_stream
from st_pipeline.simulation.faults import FAULTS

TINY = Scenario(periods=3, days=7, sensors=8, growth=2)
TIME = pl.Datetime("ms")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_all_files_are_there_with_their_columns(tiny_folder: Path) -> None:
    starts = [f"{TINY.period_start(period)}.parquet" for period in range(TINY.periods)]
    assert sorted(path.name for path in (tiny_folder / "readings").iterdir()) == starts
    assert sorted(path.name for path in (tiny_folder / "truth").iterdir()) == starts
    values = {"sensor_id": pl.String, "timestamp": TIME, "flow": pl.Float32, "speed": pl.Float32}
    for name in starts:
        assert pl.read_parquet_schema(tiny_folder / "readings" / name) == {**values, "received": TIME}
        assert pl.read_parquet_schema(tiny_folder / "truth" / name) == {**values, "fault": pl.String}
    header = (tiny_folder / "sensors.csv").read_text().splitlines()[0]
    assert header == "sensor_id,x_m,y_m,road,direction,kind,installed,retired,valid_from"
    assert (tiny_folder / "edges.csv").read_text().splitlines()[0] == "source,target,distance_m"
    described = json.loads((tiny_folder / "scenario.json").read_text())
    assert described["scenario"]["sensors"] == 8
    assert "Simulated" in described["note"]


def test_files_hold_what_is_simulated_in_memory(tiny: Simulation, tiny_folder: Path) -> None:
    for period in tiny.periods:
        name = f"{period.start}.parquet"
        assert pl.read_parquet(tiny_folder / "readings" / name).equals(period.readings)
        assert pl.read_parquet(tiny_folder / "truth" / name).equals(period.truth)


def test_the_same_scenario_gives_the_same_bytes_and_another_seed_others(tiny_folder: Path, tmp_path: Path) -> None:
    write_stream(TINY, tmp_path / "again")
    write_stream(replace(TINY, seed=8), tmp_path / "other")
    first, again, other = content(tiny_folder), content(tmp_path / "again"), content(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_a_longer_scenario_extends_a_shorter_one(tiny: Simulation) -> None:
    shorter = simulate(replace(TINY, periods=2))
    for short, long in zip(shorter.periods, tiny.periods, strict=False):
        assert short.readings.equals(long.readings)
        assert short.truth.equals(long.truth)


def test_writing_again_changes_nothing_and_leaves_no_drafts(tmp_path: Path) -> None:
    scenario = Scenario(periods=1, days=1, sensors=3)
    folder = tmp_path / "deep" / "stream"
    write_stream(scenario, folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_stream(scenario, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    assert [path.name for path in folder.parent.iterdir()] == ["stream"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "stream").mkdir()
    write_stream(Scenario(periods=1, days=1, sensors=3), tmp_path / "stream")
    assert (tmp_path / "stream" / "scenario.json").is_file()


@pytest.mark.parametrize("name", ["scenario.json", "notes.txt"])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="expected no such folder, an empty one, or the stream of this scenario"):
        write_stream(Scenario(periods=1, days=1, sensors=3), tmp_path)
    assert content(tmp_path) == {name: b"mine"}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("st_pipeline.simulation.stream.sensors_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_stream(Scenario(periods=1, days=1, sensors=3), tmp_path / "stream")
    assert not any(tmp_path.iterdir())


def test_truth_covers_every_step_of_every_living_sensor(tiny: Simulation) -> None:
    lives = tiny.sensors.unique("sensor_id")
    for number, period in enumerate(tiny.periods):
        end = TINY.period_start(number + 1)
        expected = {}
        for row in lives.iter_rows(named=True):
            days = (min(row["retired"] or end, end) - max(row["installed"], period.start)).days
            if days > 0:
                expected[row["sensor_id"]] = days * 288
        found = dict(period.truth.group_by("sensor_id").len().iter_rows())
        assert found == expected
        assert period.truth.select("sensor_id", "timestamp").is_unique().all()


def test_sensors_in_place_grow_every_period(default: Simulation) -> None:
    counts = [period.truth["sensor_id"].n_unique() for period in default.periods]
    assert counts == sorted(set(counts))
    assert counts[0] == 60
    assert 78 <= counts[-1] <= 84


def test_a_silent_sensor_returns(default: Simulation) -> None:
    def heard(number: int) -> set[str]:
        period = default.periods[number]
        return set(period.readings.filter(pl.col("timestamp") >= period.start)["sensor_id"])

    gone = (heard(0) & heard(2)) - heard(1)
    assert len(gone) == 1
    assert gone <= set(default.periods[1].truth["sensor_id"])


def test_every_fault_is_there_and_all_together_are_few(default: Simulation) -> None:
    truth = pl.concat([period.truth for period in default.periods])
    assert set(truth["fault"].unique()) == set(FAULTS)
    assert 0.03 < (truth["fault"] != "none").mean() < 0.06


def test_every_fault_is_in_a_tiny_stream(tiny: Simulation) -> None:
    faults = {fault for period in tiny.periods for fault in period.truth["fault"].unique()}
    assert faults == set(FAULTS)


def main_flows(simulation: Simulation) -> pl.DataFrame:
    """Truth of the main carriageways, all periods."""
    main = simulation.sensors.filter(pl.col("kind") == "mainline")["sensor_id"].unique()
    return pl.concat([period.truth for period in simulation.periods]).filter(pl.col("sensor_id").is_in(main.implode()))


def test_days_look_like_days_on_a_motorway(default: Simulation) -> None:
    truth = main_flows(default).with_columns(pl.col("timestamp").dt.weekday().alias("day"))
    hourly = truth.filter(pl.col("day") < 5).group_by("sensor_id", pl.col("timestamp").dt.hour().alias("hour"))
    hourly = hourly.agg(pl.col("flow").mean())
    peaks = hourly.group_by("sensor_id").agg(pl.col("flow").max())["flow"]
    assert 2000 < peaks.min() < peaks.max() < 6000
    assert 3000 < peaks.mean() < 5000
    night = hourly.filter(pl.col("hour") == 3)["flow"]
    assert 20 < night.mean() < 300
    assert (truth["flow"] == 0).mean() < 0.002


def test_weekends_and_holidays_are_quieter_than_working_days(default: Simulation) -> None:
    daily = main_flows(default).group_by(pl.col("timestamp").dt.date().alias("date")).agg(pl.col("flow").mean())
    holidays = [date(2024, 1, 1), date(2024, 5, 1)]
    free = daily.filter((pl.col("date").dt.weekday() > 5) | pl.col("date").is_in(holidays))
    working = daily.filter((pl.col("date").dt.weekday() < 6) & ~pl.col("date").is_in(holidays))
    assert free["flow"].max() < working["flow"].min() * 1.05
    assert 0.6 < free["flow"].mean() / working["flow"].mean() < 0.9
    assert daily.filter(pl.col("date").is_in(holidays))["flow"].max() < 0.8 * working["flow"].mean()


def test_demand_grows_from_period_to_period(default: Simulation) -> None:
    first, last = default.periods[0].truth, default.periods[-1].truth
    moved = default.sensors.filter(pl.len().over("sensor_id") > 1)["sensor_id"]
    retired = default.sensors.filter(pl.col("retired").is_not_null())["sensor_id"]
    kept = (set(first["sensor_id"]) & set(last["sensor_id"])) - set(moved) - set(retired)
    before, after = (truth.filter(pl.col("sensor_id").is_in(kept))["flow"].mean() for truth in (first, last))
    assert 1.03 < after / before < 1.15


def test_roads_are_congested_now_and_then_and_never_at_night(default: Simulation) -> None:
    truth = main_flows(default)
    slow = truth.filter(pl.col("speed").is_between(0, 60, closed="none"))
    assert 0.015 < len(slow) / len(truth) < 0.06
    many = slow.filter(pl.col("flow") > 200)  # the speed of a single vehicle says little
    assert many.filter(pl.col("timestamp").dt.hour().is_between(2, 4)).is_empty()


@pytest.mark.parametrize("step", [10, 30, 60])
def test_longer_steps_hold_the_same_traffic(step: int) -> None:
    plain = Scenario(periods=1, days=2, sensors=6)
    fine, coarse = simulate(plain), simulate(replace(plain, step_minutes=step))
    assert len(coarse.periods[0].truth) * step == len(fine.periods[0].truth) * 5
    means = [made.periods[0].truth["flow"].mean() for made in (fine, coarse)]
    assert means[0] == pytest.approx(means[1], rel=0.01)


def test_periods_may_begin_on_any_day() -> None:
    made = simulate(Scenario(start=date(2025, 12, 24), periods=2, days=1, sensors=4, growth=1))
    assert [period.start for period in made.periods] == [date(2025, 12, 24), date(2025, 12, 25)]
    first = made.periods[0].truth["timestamp"]
    assert (first.max() - first.min()) == timedelta(hours=24, minutes=-5)
