"""What a stream file says of its data: source, graph, calendar, quality rules, thresholds and splits."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from st_pipeline.errors import InputError
from st_pipeline.fields import Duration, Number, OpenPart, Part, Switch, Whole, check_variable, fault
from st_pipeline.periods import Cadence
from st_pipeline.registry import GRAPHS, READERS

READING_COLUMNS = ("sensor_id", "timestamp", "received")
SENSOR_COLUMNS = ("sensor_id", "latitude", "longitude", "x", "y", "installed", "retired", "valid_from", "name")
EDGE_COLUMNS = ("source", "target", "distance", "weight")
RESERVED = {*READING_COLUMNS, *SENSOR_COLUMNS, *EDGE_COLUMNS}
MOST_PERIODS = 5_000
YEARS = range(1900, 2200)


class SourceConfig(OpenPart):
    """Where the raw files lie and how they are written; further keys are options of the format's reader."""

    registry = READERS
    entry_key = "format"

    format: str
    columns: dict[str, str] = Field(default_factory=dict, description="our name -> the file's column")
    interval: Literal["start", "end"] = Field("start", description="which end of its interval a timestamp labels")
    tolerance: Duration | None = Field(None, description="a timestamp this near a step belongs to it")

    @field_validator("columns")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.keys() - RESERVED:
            try:
                check_variable(name)
            except ValueError as error:
                raise fault(str(error), name) from None
        return value

    @property
    def variables(self) -> list[str]:
        """Variables that the columns give, in their order; one called `value` if they name none."""
        return [name for name in self.columns if name not in RESERVED] or ["value"]


class GraphConfig(OpenPart):
    """How the adjacency is made; further keys are options of the recipe."""

    registry = GRAPHS
    entry_key = "recipe"

    recipe: str = "gaussian"


class PeriodsConfig(Part):
    """`every`: year, half-year, quarter, month, week or N days (`28d`); without `end` the stream is open-ended."""

    every: str
    start: date
    end: date | None = None
    nominal: Switch = Field(False, description="the source has no dates: timestamps are made from the period starts")

    @field_validator("start", "end", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`2012` and `2012-07` are days too, as in period keys."""
        if value is None or type(value) is date:
            return value
        match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?", str(value))
        try:
            return date(*(int(part or 1) for part in match.groups())) if match else date.fromisoformat("")
        except ValueError:
            raise ValueError("expected a day such as 2024-01-31") from None

    @field_validator("start", "end")
    @classmethod
    def _year(cls, value: date | None) -> date | None:
        if value is not None and value.year not in YEARS:
            raise ValueError(f"expected a day between the years {YEARS[0]} and {YEARS[-1]}")
        return value

    @model_validator(mode="after")
    def _boundaries(self) -> Self:
        try:
            cadence = Cadence.parse(self.every)
        except InputError as error:
            raise ValueError(str(error)) from None
        if cadence.months and self.start.day > 28:
            raise ValueError(f"start {self.start} does not exist in every month; expected a day up to 28")
        last = self.end or date.today()
        if (last - self.start).days > MOST_PERIODS * (cadence.days or 28 * cadence.months):
            found = f"{self.every} from {self.start} to {self.end or 'today'}"
            raise ValueError(f"{found} makes over {MOST_PERIODS:,} periods; expected longer ones or a later start")
        if self.end is None:
            return self
        if self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}")
        index = 1
        while cadence.start_of(self.start, index) < self.end:
            index += 1
        if (boundary := cadence.start_of(self.start, index)) != self.end:
            before = cadence.start_of(self.start, index - 1)
            raise ValueError(f"end {self.end} is inside a period; expected a period boundary: {before} or {boundary}")
        return self


class VariableConfig(Part):
    """Quality rules of one variable; a rule left out is not applied."""

    unit: str = ""
    sentinels: tuple[Number, ...] = Field((), description="numbers that stand for no measurement")
    minimum: Number | None = None
    maximum: Number | None = None
    stuck: Duration | None = Field(None, description="the same non-zero value for at least this long is stuck")
    stuck_at_zero: Duration | None = Field(None, description="zeros for at least this long are stuck")
    spike: Number | None = Field(None, gt=0, description="a lone value this many robust deviations away is a spike")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum} is not below maximum {self.maximum}")
        return self


class LivesConfig(Part):
    """When a sensor leaves the network without a retirement date in the sensor table."""

    retire_after: Whole | None = Field(None, ge=1, description="retired after this many whole periods of silence")


class GateConfig(Part):
    """Thresholds of the data-quality gate, as shares of 1."""

    critical_missing: Number = Field(0.95, gt=0, le=1, description="of the network's cells")
    critical_faulty: Number = Field(0.5, gt=0, le=1, description="of the network's landed cells")
    warn_missing: Number = Field(0.5, gt=0, le=1, description="of one sensor's cells")
    warn_faulty: Number = Field(0.1, gt=0, le=1, description="of one sensor's landed cells")


class SplitConfig(Part):
    """Shares of a period's time axis, in this order."""

    train: Number = Field(0.6, gt=0, lt=1)
    validation: Number = Field(0.2, gt=0, lt=1)
    test: Number = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(f"train, validation and test sum to {self.train + self.validation + self.test:g}, not 1")
        return self


class AutomationConfig(Part):
    """What happens without a command while the daemon runs."""

    new_data: Switch = Field(False, description="new and changed raw files are taken up by themselves")
    schedules: Switch = Field(False, description="the schedules of the stream are on from the start")
    look_every: Duration = Field(timedelta(seconds=30), description="between two looks at the raw files")
    corrections: Whole = Field(1, ge=0, description="newest finished periods that are made anew if their rows change")
    train_incomplete: Switch = Field(False, description="train on a period before it is over")
    quiet: Duration | None = Field(None, description="alert after this long without a new file; default two periods")
