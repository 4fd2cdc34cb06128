"""What every importer returns, and how it becomes a stream folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.scaffold import MODELS, quoted
from st_pipeline.streams import FILE


@dataclass(frozen=True)
class Draft:
    """A stream in the making.

    `lines` are those of the stream file between its name and its models, every guess marked; `files` are paths in the
    stream folder with their content, made one after the other.
    """

    lines: tuple[str, ...]
    files: Iterable[tuple[str, bytes]]

    def text(self, name: str) -> str:
        """The stream file."""
        return "\n".join([f"name: {quoted(name)}", *self.lines, *MODELS, "champion: eac"]) + "\n"


def write_draft(draft: Draft, folder: Path) -> None:
    """Write the stream file and the data of a stream called like its folder.

    Raises:
        InputError: the archive turns out to be unusable, or the folder cannot be written.
    """
    write_atomic(folder / FILE, draft.text(folder.name).encode())
    for path, content in draft.files:
        target = folder / path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path}: leaves the stream folder {folder}")
        write_atomic(target, content)
