"""Bad input as Dagster's failure: the sentence is the description, nothing is retried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from st_pipeline.errors import InputError


@contextmanager
def user_errors() -> Iterator[None]:
    """Bad input fails the step with its sentence and is not retried."""
    try:
        yield
    except InputError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
