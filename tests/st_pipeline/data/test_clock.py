"""Labels become instants: clock changes, interval ends, the grid of steps, slots of the local day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.config import StreamConfig
from st_pipeline.data import clock
from st_pipeline.data.clock import calendar_features, resolve, step_count, step_index, step_times
from st_pipeline.periods import Cadence, Calendar, Period

MakeStream = Callable[..., StreamConfig]
MakeRaw = Callable[..., pl.DataFrame]
SOURCE = {"format": "parquet", "readings": "r.parquet", "columns": {"flow": "q"}}
CHANGES = {  # a zone, and the weeks from whose first day on its clock is changed
    "Europe/Berlin": ("2024-03-28", "2024-10-24"),
    "Australia/Melbourne": ("2024-04-04", "2024-10-03"),
    "America/New_York": ("2024-03-07", "2024-10-31"),
    "America/Havana": ("2024-03-07", "2024-10-31"),
    "Atlantic/Azores": ("2024-03-28", "2024-10-24"),
    "Asia/Kathmandu": ("2024-01-01",),
    "UTC": ("2024-01-01",),
}
WEEKS = [(zone, first) for zone, days in CHANGES.items() for first in days]


def week(zone: str, first: str) -> Period:
    return Calendar(Cadence(days=7), date.fromisoformat(first), None, zone).period(0)


def instants(period: Period, step: timedelta) -> list[datetime]:
    start, end = (moment.astimezone(UTC) for moment in (period.start, period.end))
    return [start + step * number for number in range(-(-(end - start) // step))]


def label(instant: datetime, zone: str) -> datetime:
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def stamps(frame: pl.DataFrame) -> list[str]:
    return frame["timestamp"].dt.strftime("%d %H:%M").to_list()


def placed(frame: pl.DataFrame, config: StreamConfig, period: Period) -> list[tuple[int, bool]]:
    index, near = step_index(frame["timestamp"], period, config)
    return list(zip(index.tolist(), near.tolist(), strict=True))


@pytest.mark.parametrize("interval", ["start", "end"])
@pytest.mark.parametrize(("zone", "first"), WEEKS)
def test_labels_of_the_local_clock_give_their_instants_back(
    make_stream: MakeStream, make_raw: MakeRaw, zone: str, first: str, interval: str
) -> None:
    step = timedelta(minutes=15)
    config = make_stream(timezone=zone, step="15min", source={**SOURCE, "interval": interval})
    wanted = instants(week(zone, first), step)
    late = step if interval == "end" else timedelta(0)
    rows = [("a", label(at + late, zone), at.replace(tzinfo=None), number) for number, at in enumerate(wanted)]
    found = resolve(make_raw(rows, received=True).sample(fraction=1, shuffle=True, seed=1), config).sort("flow")
    assert found["timestamp"].to_list() == wanted
    assert not found["skipped"].any()
    assert set(found.columns) == {"sensor_id", "timestamp", "received", "flow", "skipped"}


def test_instants_need_no_clock(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    raw = make_raw([("a", "2024-10-27T01:00Z", 1.0)], zoned=True)
    for interval, expected in (("start", "27 01:00"), ("end", "27 00:00")):
        config = make_stream(timezone="Europe/Berlin", source={**SOURCE, "interval": interval})
        found = resolve(raw, config)
        assert stamps(found) == [expected]
        assert not found["skipped"].item()


def some_labels(zone: str, first: str, seed: int) -> list[datetime]:
    """Labels of some days of a week on the clock, some off the grid or twice, also skipped and repeated ones."""
    random = np.random.default_rng(seed)
    day = datetime.fromisoformat(first) + timedelta(days=int(random.integers(0, 6)))
    minutes = random.integers(0, int(random.integers(1, 4)) * 24 * 60, 40) // 15 * 15
    return [day + timedelta(minutes=int(at), seconds=int(random.integers(0, 2))) for at in (*minutes, *minutes[:5])]


@pytest.mark.parametrize("received", [True, False])
@pytest.mark.parametrize("interval", ["start", "end"])
@pytest.mark.parametrize(
    ("zone", "first"), [*WEEKS, ("Australia/Lord_Howe", "2024-04-04"), ("Asia/Kolkata", "2024-05-01")]
)
def test_where_no_clock_changes_instants_are_those_of_every_label_looked_up(
    make_stream: MakeStream, make_raw: MakeRaw, monkeypatch, zone: str, first: str, interval: str, received: bool
) -> None:
    config = make_stream(timezone=zone, source={**SOURCE, "interval": interval})
    constant, plain = clock._constant_offset, set()
    for seed in range(12):
        labels = some_labels(zone, first, seed)
        raw = make_raw([("ab"[row % 2], at, at, float(row)) for row, at in enumerate(labels)], received=True)
        raw = raw if received else raw.drop("received")
        plain.add(constant(raw["timestamp"], zone) is not None)
        found = resolve(raw, config)
        with monkeypatch.context() as patched:
            patched.setattr(clock, "_constant_offset", lambda *_: None)
            expected = resolve(raw, config)
        assert found.equals(expected)
        assert found.schema == expected.schema
    assert plain == ({True} if zone.startswith("Asia") or zone == "UTC" else {True, False})


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", "2024-03-31 02:00"),
        ("Europe/Berlin", "2024-10-27 02:00"),
        ("Australia/Lord_Howe", "2024-04-07 01:30"),
        ("Australia/Lord_Howe", "2024-10-06 02:00"),
        ("America/Havana", "2024-11-03 00:00"),
        ("Pacific/Apia", "2011-12-30 00:00"),
        ("Asia/Pyongyang", "2018-05-04 23:30"),
    ],
)
@given(st.integers(-72 * 60, 72 * 60), st.integers(0, 600))
def test_one_offset_stands_for_all_labels_only_where_it_is_that_of_each(
    zone: str, change: str, before: int, length: int
) -> None:
    first = datetime.fromisoformat(change) + timedelta(minutes=before)
    labels = [first, first + timedelta(minutes=length)]
    offset = clock._constant_offset(pl.Series(labels, dtype=pl.Datetime("ms")), zone)
    for at in pl.datetime_range(*labels, "5m", eager=True).to_list():
        instant, again = (at.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))
        assert offset is None or at + offset == instant.replace(tzinfo=None) == again.replace(tzinfo=None)
    if abs(before) > 60 * 60 and abs(before + length) > 60 * 60 and (before > 0) == (before + length > 0):
        assert offset is not None


@pytest.mark.parametrize("rising", [True, False])
@given(shuffle=st.integers(0, 2**32 - 1))
def test_without_reception_times_the_repeated_hour_follows_the_trend(
    make_stream: MakeStream, make_raw: MakeRaw, rising: bool, shuffle: int
) -> None:
    zone = "Europe/Berlin"
    wanted = instants(week(zone, "2024-10-24"), timedelta(minutes=30))
    value = [float(number if rising else -number) for number in range(len(wanted))]
    rows = [("a", label(at, zone), flow) for at, flow in zip(wanted, value, strict=True)]
    raw = make_raw(rows).sample(fraction=1, shuffle=True, seed=shuffle)
    found = resolve(raw, make_stream(timezone=zone, step="30min"))
    assert found.sort("flow", descending=not rising)["timestamp"].to_list() == wanted


def test_each_of_several_changes_follows_its_own_trend(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    flows = {"2023-10-29": (1, 2, 3, 4), "2024-10-27": (40, 30, 20, 10)}
    hours = ("01:00", "02:00", "02:00", "03:00")
    rows = [("a", f"{day} {hour}", flow) for day, four in flows.items() for hour, flow in zip(hours, four, strict=True)]
    found = resolve(make_raw(rows), make_stream(timezone="Europe/Berlin")).sort("timestamp")
    assert found["flow"].to_list() == [1, 2, 3, 4, 40, 30, 20, 10]


def test_reception_goes_before_trend_and_a_lone_row_is_the_first(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    rows = [
        ("a", "2024-10-27 02:00", "2024-10-27 01:20", 1.0),
        ("a", "2024-10-27 02:00", "2024-10-27 00:20", 9.0),
        ("a", "2024-10-27 03:00", "2024-10-27 02:20", 10.0),
        ("b", "2024-10-27 02:00", None, 5.0),
        ("c", "2024-10-27 02:00", None, 5.0),
        ("c", "2024-10-27 02:00", "2024-10-27 00:20", 6.0),
    ]
    found = resolve(make_raw(rows, received=True), make_stream(timezone="Europe/Berlin")).sort("sensor_id", "flow")
    assert stamps(found) == ["27 01:00", "27 00:00", "27 02:00", "27 00:00", "27 01:00", "27 00:00"]


@pytest.mark.parametrize(
    ("zone", "told", "instant"),
    [
        ("Europe/Berlin", "2024-03-31 02:30", "2024-03-31T01:30Z"),
        ("Australia/Lord_Howe", "2024-10-06 02:15", "2024-10-05T15:45Z"),
        ("America/Havana", "2024-03-10 00:00", "2024-03-10T05:00Z"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00Z"),
    ],
)
def test_a_skipped_label_is_read_as_if_the_clock_had_not_changed(
    make_stream: MakeStream, make_raw: MakeRaw, zone: str, told: str, instant: str
) -> None:
    found = resolve(make_raw([("a", told, 1.0)]), make_stream(timezone=zone))
    assert found["timestamp"].item() == datetime.fromisoformat(instant)
    assert found["skipped"].item()


@pytest.mark.parametrize(("zone", "first"), WEEKS)
@pytest.mark.parametrize("minutes", [5, 30, 60])
def test_steps_are_numbered_by_elapsed_time(make_stream: MakeStream, zone: str, first: str, minutes: int) -> None:
    step = timedelta(minutes=minutes)
    period = week(zone, first)
    expected = instants(period, step)
    assert step_count(period, step) == len(expected)
    times = step_times(period, step, len(expected))
    assert times.to_list() == expected
    found = placed(times.to_frame(), make_stream(timezone=zone, step=step), period)
    assert found == [(number, True) for number in range(len(expected))]


def test_a_step_lies_on_the_grid_within_the_tolerance(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    period = week("UTC", "2024-01-01")
    times = ["00:59:00", "01:00:00", "01:02:00", "01:02:01", "00:30:00", "00:29:59"]
    raw = make_raw([("a", f"2024-01-01T{at}Z", 0.0) for at in times], zoned=True)
    strict = placed(raw, make_stream(), period)
    assert strict == [(1, False), (1, True), (1, False), (1, False), (1, False), (0, False)]
    loose = placed(raw, make_stream(source={**SOURCE, "tolerance": "2min"}), period)
    assert [near for _, near in loose] == [True, True, True, False, False, False]


def test_steps_outside_the_period_have_numbers_outside_the_grid(make_stream: MakeStream, make_raw: MakeRaw) -> None:
    period = week("UTC", "2024-01-01")
    raw = make_raw([("a", "2023-12-31T23:00Z", 0.0), ("a", "2024-01-08T00:00Z", 0.0)], zoned=True)
    assert placed(raw, make_stream(), period) == [(-1, True), (step_count(period, timedelta(hours=1)), True)]


@pytest.mark.parametrize(("zone", "first"), WEEKS)
@pytest.mark.parametrize("hours", [3, 4, 6, 8, 12, 24])
def test_long_steps_follow_the_local_clock(
    make_stream: MakeStream, make_raw: MakeRaw, zone: str, first: str, hours: int
) -> None:
    step, period = timedelta(hours=hours), week(zone, first)
    config = make_stream(timezone=zone, step=step)
    labels = [period.start.replace(tzinfo=None) + step * number for number in range(7 * 24 // hours)]
    rows = resolve(make_raw([("a", at, 0.0) for at in labels]), config)
    assert placed(rows.sort("timestamp"), config, period) == [(number, True) for number in range(len(labels))]
    assert step_count(period, step) == len(labels)
    seconds = step_times(period, step, len(labels)).dt.epoch("s").to_numpy()
    slot, day = calendar_features(seconds, zone, step)
    assert slot.tolist() == [at.hour // hours for at in labels]
    assert day.tolist() == [at.weekday() for at in labels]


@pytest.mark.parametrize(("zone", "first"), WEEKS)
@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_slot_and_weekday_are_those_of_the_local_clock(zone: str, first: str, minutes: int) -> None:
    step = timedelta(minutes=minutes)
    moments = instants(week(zone, first), step)
    slot, day = calendar_features(np.array([int(at.timestamp()) for at in moments]), zone, step)
    local: list[Any] = [label(at, zone) for at in moments]
    assert slot.tolist() == [(at.hour * 60 + at.minute) // minutes for at in local]
    assert day.tolist() == [at.weekday() for at in local]
    assert slot.dtype == day.dtype == np.int64


def test_nominal_periods_have_instants_too(make_stream: MakeStream) -> None:
    periods = {"every": "year", "start": "2011-01-01", "end": "2013-01-01", "nominal": True}
    config = make_stream(periods=periods, step="5min")
    first, second = config.calendar.periods()
    assert (step_count(first, config.step), step_count(second, config.step)) == (365 * 288, 366 * 288)
    assert step_times(second, config.step, 2).to_list() == [
        datetime(2012, 1, 1, tzinfo=UTC),
        datetime(2012, 1, 1, 0, 5, tzinfo=UTC),
    ]
