"""The inventory of raw files, whose digest says whether anything has to be read again."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError

BLOCK = 1 << 22


def inventory(files: Iterable[Path]) -> pl.DataFrame:
    """One row per file: file (its name), bytes, digest of the content.

    Raises:
        InputError: a file cannot be read.
    """
    rows = [(file.name, *facts(file)) for file in files]
    return pl.DataFrame(rows, orient="row", schema={"file": pl.String, "bytes": pl.Int64, "digest": pl.String}).sort(
        "file", "digest"
    )


def facts(file: Path) -> tuple[int, str]:
    """Bytes of a file, and digest of its content.

    Raises:
        InputError: it cannot be read.
    """
    state, size = blake2b(digest_size=16), 0
    try:
        with file.open("rb") as handle:
            while block := handle.read(BLOCK):
                state.update(block)
                size += len(block)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    return size, state.hexdigest()
