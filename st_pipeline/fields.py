"""What the sections of a stream file are made of: types of values, and bases that refuse unknown keys."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from st_pipeline.errors import InputError
from st_pipeline.registry import Registry

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
VARIABLE = re.compile(r"[^\W\d]\w{0,62}")
UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
MADE = {"after", "before", "copy", "file", "first", "level", "near", "row", "second", "skipped", "step", "turn"}


def parse_duration(value: Any) -> timedelta:
    """`5min`, `1h`, `7d` or `30s` as a timedelta."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]{1,9})\s*(s|min|m|h|d)", value.strip()) if isinstance(value, str) else None
    if not match or int(match[1]) == 0:
        raise ValueError("expected a duration such as '5min', '1h' or '7d'")
    return timedelta(seconds=int(match[1]) * UNITS[match[2]])


def parse_rank(value: Any) -> Any:
    """The rank of node prompts as it is given."""
    if value == "full" or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected a whole number of at least 1, or full")


def check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("expected lower-case letters, digits and underscores, starting with a letter, at most 63")
    return value


def as_spec(value: Any) -> Any:
    """`stgnn` as `{name: stgnn}`."""
    return {"name": value} if isinstance(value, str) else value


def as_text(step: timedelta) -> str:
    """A duration as a stream file has it, e.g. 7d, 5min."""
    seconds = int(step.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def check_variable(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError(f"{value[:40]!r} cannot be the name of a variable; expected letters, digits and underscores")
    if value in MADE or value.endswith(("_flag", "_conflict", "_level")):
        raise ValueError(f"{value!r} is a column that the pipeline makes itself; choose another name for the variable")
    return value


def fault(message: str, field: str | None) -> PydanticCustomError:
    """A validation error about one key of the section that is being checked."""
    return PydanticCustomError("fault", "{message}", {"message": message, "field": field})


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Rank = Annotated[int | Literal["full"], BeforeValidator(parse_rank)]
Switch = Annotated[bool, Field(strict=True)]
Name = Annotated[
    str, Field(strict=True), BeforeValidator(lambda value: check_name(value) if isinstance(value, str) else value)
]


class Part(BaseModel):
    """Base of every section: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenPart(BaseModel):
    """A section that names a registered entry; further keys are the entry's options, checked against it.

    A subclass says which `registry` has the entries, and which of its fields names one: `entry_key`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    registry: ClassVar[Registry[Any]]
    entry_key: ClassVar[str] = "name"

    def spec(self) -> dict[str, Any]:
        """The entry's name and options, as `Registry.build` takes them."""
        return {"name": getattr(self, self.entry_key), **(self.model_extra or {})}

    @model_validator(mode="after")
    def _options(self) -> Self:
        if "name" in (self.model_extra or {}):
            raise fault("there is no such key", "name")
        try:
            self.registry.validate(self.spec())
        except InputError as error:
            raise fault(str(error), error.field) from None
        return self
