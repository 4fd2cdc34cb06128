"""Periods tile the stream's time without gap or overlap, in its own time zone, whatever the cadence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import InputError
from st_pipeline.periods import Cadence, Calendar

NAMED = ["year", "half-year", "quarter", "month", "week"]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo", "Africa/Cairo"]
cadences = st.sampled_from(NAMED) | st.integers(1, 400).map(lambda days: f"{days}d")
starts = st.dates(date(1990, 1, 1), date(2030, 12, 31)).map(lambda day: day.replace(day=min(day.day, 28)))


def calendar(every: str, first: date, periods: int | None, timezone: str = "UTC") -> Calendar:
    cadence = Cadence.parse(every)
    return Calendar(cadence, first, None if periods is None else cadence.start_of(first, periods), timezone)


@given(every=cadences, first=starts, periods=st.integers(1, 30), timezone=st.sampled_from(ZONES))
def test_periods_tile_the_calendar(every: str, first: date, periods: int, timezone: str) -> None:
    found = calendar(every, first, periods, timezone).periods()
    assert [period.index for period in found] == list(range(periods))
    assert found[0].start.date() == first
    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(period.start < period.end for period in found)
    assert all(period.start.tzinfo == ZoneInfo(timezone) and period.start.hour == 0 for period in found)


@given(every=cadences, first=starts, periods=st.integers(1, 30))
def test_keys_are_unique_and_sort_as_their_periods(every: str, first: date, periods: int) -> None:
    keys = [period.key for period in calendar(every, first, periods).periods()]
    assert keys == sorted(set(keys))
    assert len(keys) == periods


@pytest.mark.parametrize(
    ("every", "first", "keys"),
    [
        ("year", date(2012, 1, 1), ["2012", "2013", "2014"]),
        ("year", date(2013, 3, 1), ["2013-03", "2014-03", "2015-03"]),
        ("year", date(2013, 3, 15), ["2013-03-15", "2014-03-15", "2015-03-15"]),
        ("half-year", date(2012, 1, 1), ["2012-01", "2012-07", "2013-01"]),
        ("half-year", date(2012, 11, 1), ["2012-11", "2013-05", "2013-11"]),
        ("quarter", date(2023, 11, 28), ["2023-11-28", "2024-02-28", "2024-05-28"]),
        ("month", date(2023, 12, 1), ["2023-12", "2024-01", "2024-02"]),
        ("week", date(2024, 2, 26), ["2024-02-26", "2024-03-04", "2024-03-11"]),
        ("28d", date(2024, 2, 1), ["2024-02-01", "2024-02-29", "2024-03-28"]),
        ("1d", date(2024, 2, 28), ["2024-02-28", "2024-02-29", "2024-03-01"]),
    ],
)
def test_a_key_is_the_shortest_name_of_the_start(every: str, first: date, keys: list[str]) -> None:
    assert [period.key for period in calendar(every, first, 3).periods()] == keys


@given(every=st.sampled_from(NAMED), first=starts, periods=st.integers(1, 12))
def test_the_cron_expression_ticks_at_every_period_start(every: str, first: date, periods: int) -> None:
    _, _, day, month, weekday = Cadence.parse(every).cron(first).split()
    for period in calendar(every, first, periods).periods():
        start = period.start
        assert day in ("*", str(start.day))
        assert month == "*" or str(start.month) in month.split(",")
        assert weekday in ("*", str(start.isoweekday() % 7))


def test_a_cadence_of_days_ticks_daily_and_of_whole_weeks_weekly() -> None:
    assert Cadence.parse("28d").cron(date(2024, 1, 1)) == "0 0 * * 1"
    assert Cadence.parse("30d").cron(date(2024, 1, 1)) == "0 0 * * *"


@pytest.mark.parametrize(
    ("every", "first", "end"),
    [("month", date(2024, 1, 1), datetime(2024, 2, 1)), ("10d", date(2024, 3, 25), datetime(2024, 4, 4))],
)
@pytest.mark.parametrize("timezone", ZONES)
def test_an_open_ended_stream_gains_a_period_exactly_when_its_end_passes(
    every: str, first: date, end: datetime, timezone: str
) -> None:
    stream = calendar(every, first, None, timezone)
    moment = end.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
    assert stream.periods(moment - timedelta(seconds=1)) == []
    assert [period.index for period in stream.periods(moment)] == [0]
    assert stream.period(0).end == moment


def test_of_an_open_ended_stream_the_running_period_has_begun() -> None:
    stream = calendar("week", date(2024, 1, 1), None)
    moment = stream.period(2).start + timedelta(hours=1)
    assert [period.index for period in stream.begun(moment)] == [0, 1, 2]
    assert stream.find("2024-01-15", moment).is_running(moment)
    assert not stream.find("2024-01-08", moment).is_running(moment)
    assert stream.begun(stream.period(0).start - timedelta(seconds=1)) == []
    with pytest.raises(InputError, match="no period"):
        stream.find("2024-01-22", moment)


def test_an_open_ended_stream_that_begins_in_the_future_has_no_periods() -> None:
    assert calendar("week", date(2030, 1, 1), None).periods(datetime(2029, 6, 1, tzinfo=UTC)) == []


def test_a_clock_change_makes_a_period_longer_or_shorter_by_an_hour() -> None:
    spring, autumn = (
        calendar("1d", day, 1, "Europe/Berlin").period(0) for day in (date(2024, 3, 31), date(2024, 10, 27))
    )
    elapsed = [period.end.astimezone(UTC) - period.start.astimezone(UTC) for period in (spring, autumn)]
    assert elapsed == [timedelta(hours=23), timedelta(hours=25)]
    assert spring.days == autumn.days == 1


@pytest.mark.parametrize("text", ["", "day", "0d", "-1d", "1.5d", "3661d", "99999999999999d", "d", "7 d", "٣d", "Year"])
def test_anything_else_is_no_period_length(text: str) -> None:
    with pytest.raises(InputError, match="is no period length; expected a name, or N days from '1d' to '3660d'"):
        Cadence.parse(text)


def test_a_misspelt_cadence_is_told_the_closest() -> None:
    with pytest.raises(InputError, match="did you mean 'half-year'"):
        Cadence.parse("half_year")


def test_a_period_is_found_by_its_key_or_the_closest_is_named() -> None:
    stream = calendar("half-year", date(2012, 1, 1), 4)
    assert stream.find("2013-01").index == 2
    with pytest.raises(InputError, match=r"no period '2013-1'; did you mean '2013-0[17]'"):
        stream.find("2013-1")


@pytest.mark.parametrize("zone", ["UTC", "Australia/Melbourne", "America/Santiago"])
def test_the_last_day_of_a_period_is_the_day_before_the_next(zone: str) -> None:
    calendar = Calendar(Cadence.parse("quarter"), date(2024, 1, 1), date(2025, 1, 1), zone)
    assert [period.last_day for period in calendar.periods()] == [
        date(2024, 3, 31),
        date(2024, 6, 30),
        date(2024, 9, 30),
        date(2024, 12, 31),
    ]
