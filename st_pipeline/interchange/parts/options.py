"""Options of importers, which arrive as text."""

from __future__ import annotations

from datetime import datetime, timedelta

from st_pipeline.errors import InputError
from st_pipeline.fields import parse_duration


def as_start(text: str) -> datetime:
    """The label of the first step, e.g. 2018-01-01 or 2018-01-01T06:00."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"option 'start': found {text!r}, expected a time such as 2018-01-01 or 2018-01-01T06:00"
        ) from None
    if found.tzinfo is not None:
        raise InputError(f"option 'start': found {text!r}, expected a time without a UTC offset")
    return found


def as_step(text: str) -> timedelta:
    """The time between two steps, e.g. 5min."""
    try:
        step = parse_duration(text)
    except ValueError as error:
        raise InputError(f"option 'step': found {text!r}, {error}") from None
    if timedelta(days=1) % step:
        raise InputError(f"option 'step': found {text!r}, expected one that divides a day, such as 5min, 15min or 1h")
    return step
