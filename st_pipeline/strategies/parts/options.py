"""What a strategy's options may be."""

from __future__ import annotations

from st_pipeline.errors import InputError


def check_shares(strategy: str, **shares: float) -> None:
    """Refuse what is no share.

    Raises:
        InputError: one of them is outside 0..1.
    """
    for option, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"strategy '{strategy}': {option} is {share}, expected a share from 0 to 1")


def check_least(strategy: str, least: int = 0, **values: float) -> None:
    """Refuse what is too small.

    Raises:
        InputError: one of them is below `least`.
    """
    for option, value in values.items():
        if value < least:
            raise InputError(f"strategy '{strategy}': {option} is {value}, expected {least} or more")
