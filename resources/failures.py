"""Bad input as Dagster's failure, and a failed step's sentence: the description of the failure, nothing is retried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from st_pipeline.errors import InputError

LONGEST = 600  # characters


@contextmanager
def user_errors() -> Iterator[None]:
    """Bad input fails the step with its sentence and is not retried."""
    try:
        yield
    except InputError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None


def sentence(event: dg.DagsterEvent) -> str:
    """What the step of a failure event says, or the innermost of its errors."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    text = " ".join(error.message.split()) if error else "no error was recorded; see the UI"
    return text.removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")[:LONGEST]
