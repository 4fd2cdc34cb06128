"""The error a user can act on."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input, told in one sentence: what was found, where, what was expected, what to do.

    The command line prints it on standard error and exits with 2; an asset fails with it and is not retried.
    """


def closest(found: object, known: Iterable[object]) -> str:
    """A hint naming the closest of the known names, or the known names when none is close."""
    names = [str(name) for name in known]
    if match := get_close_matches(str(found), names, n=1, cutoff=0.6):
        return f"did you mean {match[0]!r}?"
    shown = ", ".join(repr(name) for name in sorted(names)[:12])
    return f"known: {shown}{', ...' if len(names) > 12 else ''}" if names else "there are none"
