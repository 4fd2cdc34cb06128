"""Looking at raw files without reading them: path, size and time of the last change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from st_pipeline.errors import InputError
from st_pipeline.readers.base import Reader

TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".filepart", ".swp", "~")
Stat = tuple[int, int]  # bytes, time of the last change in nanoseconds


def look(reader: Reader) -> dict[str, Path]:
    """Every raw file of a stream by its label.

    Raises:
        InputError: there is none.
    """
    return {reader.context.label(file): file for file in reader.files()}


def stats(files: Mapping[str, Path]) -> dict[str, Stat]:
    """Size and time of the last change of each file.

    Raises:
        InputError: one cannot be looked at.
    """
    found = {}
    for label, file in files.items():
        try:
            state = file.stat()
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
        found[label] = (state.st_size, state.st_mtime_ns)
    return found


def in_the_writing(labels: Iterable[str], before: Mapping[str, Stat], now: Mapping[str, Stat]) -> list[str]:
    """Files that changed since the last look, are gone since, or have a temporary name."""
    moved = {label for label in {*before, *now} if before.get(label) != now.get(label)}
    return sorted(moved | {label for label in labels if label.lower().endswith(TEMPORARY)})
