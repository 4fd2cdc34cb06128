"""Files of an archive: found by name, never outside of its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from st_pipeline.errors import InputError

MOST_JSON = 10_000_000  # bytes


def files_of(path: Path, *patterns: str) -> list[Path]:
    """Visible files of a folder at any depth whose name matches one of the patterns, sorted; a file is its own folder.

    Raises:
        InputError: there is no such path, or a file lies outside of the folder, behind a link.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    if path.is_file():
        return [path] if any(fnmatch(path.name.lower(), pattern) for pattern in patterns) else []
    root = path.resolve()
    found = []
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if hidden or not any(fnmatch(file.name.lower(), pattern) for pattern in patterns):
            continue
        if not file.resolve().is_relative_to(root):
            raise InputError(f"{file}: links to a file outside of {path}; copy the file there instead")
        if file.is_file():
            found.append(file)
    return found


def one_file(path: Path, *patterns: str, what: str) -> Path:
    """The only matching file.

    Raises:
        InputError: there is none, or more than one.
    """
    found = files_of(path, *patterns)
    if not found:
        raise InputError(f"{path}: there is no {what}; expected {' or '.join(patterns)}")
    if len(found) > 1:
        raise InputError(
            f"{path}: expected one {what}, found {found[0].name} and {found[1].name}; keep one, or name the file"
        )
    return found[0]


def beside(path: Path, *patterns: str) -> Path | None:
    """The first matching file of a folder, or of the folder that a file lies in; None if there is none."""
    folder = path if path.is_dir() else path.parent
    found = [file for file in files_of(folder, *patterns) if path.is_dir() or file.parent == folder]
    return found[0] if found else None


def read_json(file: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object with at least the needed keys.

    Raises:
        InputError: it is something else, or too large.
    """
    try:
        if (size := file.stat().st_size) > MOST_JSON:
            raise InputError(f"{file}: {size:,} bytes; expected at most {MOST_JSON:,}")
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file}: cannot be read as JSON: {reason}") from None
    if not isinstance(document, dict):
        raise InputError(f"{file}: found a {type(document).__name__}, expected a JSON object")
    if absent := [key for key in needed if key not in document]:
        raise InputError(f"{file}: there is no {absent[0]!r}; expected {', '.join(needed)}")
    return document
