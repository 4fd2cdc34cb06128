"""The error a user can act on."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 1200  # characters of a sentence; what is found in a file can be of any length
SHOWN = 60  # characters of a name in a hint


class InputError(ValueError):
    """Bad input, told in one sentence: what was found, where, what was expected, what to do.

    The command line prints it on standard error and exits with 2; an asset fails with it and is not retried.
    Whatever was found, the sentence is one line: control characters are written out.

    Args:
        message: the sentence.
        field: the key of the configuration at fault, where the caller knows the file and the line.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ...")
        self.field = field


def closest(found: object, known: Iterable[object]) -> str:
    """A hint naming the closest of the known names, or the known names when none is close."""
    names = [str(name)[:SHOWN] for name in known]
    if match := get_close_matches(str(found)[:SHOWN], names, n=1, cutoff=0.6):
        return f"did you mean {match[0]!r}?"
    shown = ", ".join(repr(name) for name in sorted(names)[:12])
    return f"known: {shown}{', ...' if len(names) > 12 else ''}" if names else "there are none"
