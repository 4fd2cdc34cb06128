"""Cutting time into periods: calendar arithmetic in the stream's own time zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from st_pipeline.errors import InputError, closest

MONTHS = {"year": 12, "half-year": 6, "quarter": 3, "month": 1}
DAYS = {"week": 7}
LONGEST = 3660  # days of a period


@dataclass(frozen=True)
class Period:
    """One window of calendar time, the unit of learning.

    `start` and `end` (exclusive) are instants with a time zone; `index` counts from 0 at the stream's first period.
    """

    key: str
    index: int
    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        return (self.end - self.start) / timedelta(days=1)

    def is_running(self, now: datetime | None = None) -> bool:
        """Whether it has begun and is not over."""
        return self.start <= (now or datetime.now(UTC)) < self.end

    @property
    def last_day(self) -> date:
        """On the stream's clock; what is in force on it is in force for the period."""
        return self.end.date() - timedelta(days=1)


@dataclass(frozen=True)
class Cadence:
    """A period's length, in months or in days (exactly one is non-zero)."""

    months: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Cadence:
        """`year`, `half-year`, `quarter`, `month`, `week` or N days as `28d`, up to ten years.

        Raises:
            InputError: anything else.
        """
        if text in MONTHS:
            return cls(months=MONTHS[text])
        if text in DAYS:
            return cls(days=DAYS[text])
        if (match := re.fullmatch(r"([0-9]{1,4})d", text)) and 0 < int(match[1]) <= LONGEST:
            return cls(days=int(match[1]))
        hint = closest(text, [*MONTHS, *DAYS])
        raise InputError(
            f"{text[:40]!r} is no period length; expected a name, or N days from '1d' to '{LONGEST}d'; {hint}"
        )

    @property
    def longest(self) -> timedelta:
        """No period is longer."""
        return timedelta(days=self.days or 31 * self.months)

    @property
    def shortest(self) -> timedelta:
        """No period is shorter."""
        return timedelta(days=self.days or 28 * self.months)

    def start_of(self, first: date, index: int) -> date:
        """First day of period `index`, period 0 starting on `first`."""
        if self.days:
            return first + timedelta(days=self.days * index)
        month = first.year * 12 + first.month - 1 + self.months * index
        return date(month // 12, month % 12 + 1, first.day)

    def cron(self, first: date) -> str:
        """Cron expression whose ticks include every period start; N-day cadences tick daily or weekly."""
        if self.months == 12:
            return f"0 0 {first.day} {first.month} *"
        if self.months > 1:
            months = sorted((first.month - 1 + step) % 12 + 1 for step in range(0, 12, self.months))
            return f"0 0 {first.day} {','.join(map(str, months))} *"
        if self.months == 1:
            return f"0 0 {first.day} * *"
        return f"0 0 * * {first.isoweekday() % 7}" if self.tick == 7 else "0 0 * * *"

    @property
    def tick(self) -> int:
        """Of an N-day cadence, days between the ticks of its cron expression: 7 if N weeks, else 1."""
        return 1 if self.days % 7 else 7

    def key_format(self, first: date) -> str:
        """The shortest `strftime` format that names a period by its start."""
        if self.days or first.day != 1:
            return "%Y-%m-%d"
        return "%Y" if self.months == 12 and first.month == 1 else "%Y-%m"


@dataclass(frozen=True)
class Calendar:
    """The periods of one stream.

    Without `end` the stream is open-ended: a period counts once its time has passed, and only its data and forecasts
    are made before. A nominal calendar belongs to a stream whose source has no dates: its timestamps are made from
    the period starts.
    """

    cadence: Cadence
    first: date
    end: date | None
    timezone: str
    nominal: bool = False

    def period(self, index: int) -> Period:
        zone = ZoneInfo(self.timezone)
        start, end = (self.cadence.start_of(self.first, i) for i in (index, index + 1))
        midnight = datetime.min.time()
        return Period(
            key=start.strftime(self.cadence.key_format(self.first)),
            index=index,
            start=datetime.combine(start, midnight, zone),
            end=datetime.combine(end, midnight, zone),
        )

    def periods(self, now: datetime | None = None) -> list[Period]:
        """All periods, oldest first; of an open-ended stream those complete at `now`."""
        moment = now or datetime.now(UTC)
        found: list[Period] = []
        while True:
            period = self.period(len(found))
            done = period.start.date() >= self.end if self.end else period.end > moment
            if done:
                return found
            found.append(period)

    def begun(self, now: datetime | None = None) -> list[Period]:
        """`periods`, and of an open-ended stream the one that is running."""
        found, moment = self.periods(now), now or datetime.now(UTC)
        if self.end is None and (running := self.period(len(found))).start <= moment:
            found.append(running)
        return found

    def find(self, key: str, now: datetime | None = None) -> Period:
        """The period with this key, which may be running.

        Raises:
            InputError: the stream has no such period.
        """
        periods = self.begun(now)
        for period in periods:
            if period.key == key:
                return period
        raise InputError(f"there is no period {key!r}; {closest(key, [period.key for period in periods])}")


def between(keys: Sequence[str], asked: str | None, stream: str) -> list[str]:
    """Of the keys of a stream's periods those of `A..B`, of one key, or all.

    Raises:
        InputError: there is no such period, or B is before A.
    """
    if not asked:
        return list(keys)
    ends = [part.strip() for part in asked.split("..")]
    first, last = (ends[0] or keys[0]), (ends[-1] or keys[-1])
    for key in (first, last):
        if key not in keys:
            raise InputError(f"stream {stream!r} has no period {key!r}; {closest(key, keys)}")
    found = list(keys[keys.index(first) : keys.index(last) + 1])
    if not found or len(ends) > 2:
        raise InputError(f"--periods {asked!r}: expected A..B with A before B, or one period")
    return found
