"""Cutting a period's time axis into training, validation and test."""

from __future__ import annotations

from typing import NamedTuple

from st_pipeline.data_config import SplitConfig
from st_pipeline.errors import InputError


class Split(NamedTuple):
    """Index ranges of a period's steps, in this order and without overlap; steps between two of them are not used."""

    train: range
    validation: range
    test: range


def split(length: int, shares: SplitConfig, *, used: float | None = None) -> Split:
    """Cuts at int(length * train) and int(length * (train + validation)), as EAC's public code.

    Args:
        used: share of the period, at most `train`, whose steps alone are the training part; as its few-shot code,
            which leaves validation and test where they are.
    """
    first = int(length * shares.train)
    second = int(length * round(shares.train + shares.validation, 12))
    return Split(range(first if used is None else int(length * used)), range(first, second), range(second, length))


def window_starts(part: range, span: int, *, drop_last: bool = False) -> range:
    """First steps of all windows of `span` steps (inputs and targets) that lie inside one part.

    Args:
        drop_last: leave out the last window, as the public code's generator does.
    """
    return range(part.start, max(part.start, part.stop - span + 1 - drop_last))


def require_windows(starts: range, part: range, *, name: str, period: str, span: int) -> None:
    """Fail if a part is too short for a single window.

    Raises:
        InputError: with the numbers.
    """
    if not len(starts):
        raise InputError(
            f"period {period}: its {name} part has {len(part)} steps, but one window needs {span} (window + horizon); "
            "choose longer periods, a shorter window or another split (or training.share, for the train part)"
        )
