"""Files on a local disk: written whole or not at all, by temporary file, flush and rename."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from st_pipeline.errors import InputError

ABANDONED = 3600.0  # seconds after which nobody is writing a temporary file any more


def write_atomic(path: Path, payload: bytes) -> None:
    """Write by temporary file, flush and rename: readers see the old content or the new one, never a part.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
        _remove_leftovers(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}; what was there before is intact"
        ) from None


def _flush_folder(folder: Path) -> None:
    """Make renames in a folder outlast a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system flushes folders; the rename has happened
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of this path whose writers were killed: those too old to be in the writing."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        with suppress(OSError):  # another process may have removed it
            if time.time() - leftover.stat().st_mtime > ABANDONED:
                leftover.unlink()


class Folder:
    """Files of a lake that are files."""

    def read(self, place: Path) -> bytes:
        try:
            return place.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InputError(f"{place}: cannot be read: {error.strerror or error}") from None

    def write(self, place: Path, payload: bytes) -> None:
        write_atomic(place, payload)

    def stat(self, place: Path) -> tuple[int, int] | None:
        """Bytes and time of change in nanoseconds; None if it is no file."""
        if not place.is_file():
            return None
        found = place.stat()
        return found.st_size, found.st_mtime_ns

    def names(self, folder: Path) -> list[str]:
        """Names of the files in a folder; none if there is no such folder."""
        return [path.name for path in folder.glob("*")]

    def below(self, folder: Path) -> dict[str, tuple[int, int]]:
        """All files below a folder by relative path, with bytes and time of change."""
        found = {path: self.stat(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        return {path.relative_to(folder).as_posix(): facts for path, facts in found.items() if facts}
