"""What a backbone's options may be."""

from __future__ import annotations

from st_pipeline.errors import InputError


def check_least(backbone: str, least: int = 1, **values: float) -> None:
    """Refuse what is too small.

    Raises:
        InputError: one of them is below `least`.
    """
    for option, value in values.items():
        if value < least:
            hint = "give a positive number" if least == 1 else "give a larger one"
            raise InputError(f"backbone '{backbone}': {option} is {value}, expected at least {least}; {hint}")
