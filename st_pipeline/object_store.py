"""A lake in an object store, addressed by URL: reading, writing, and what the store's complaints mean to a user.

An object appears whole or not at all, so writing needs no temporary file. Nothing that was listed is remembered, since
other machines write too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from st_pipeline.errors import InputError

if TYPE_CHECKING:
    from upath import UPath

ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9][A-Za-z0-9_.=-]*)*/?")


def open_bucket(url: str) -> UPath:
    """The root of a lake at `s3://bucket/prefix`; credentials and endpoint are found as every AWS client finds them.

    Raises:
        InputError: it is another kind of address, or the package for it is not installed.
    """
    if not ADDRESS.fullmatch(url) or "/.." in url:
        raise InputError(
            f"ST_PIPELINE_LAKE is {url[:200]!r}; expected a folder, or s3://BUCKET/PREFIX of letters, digits, "
            "'_', '-', '=' and '.'"
        )
    try:
        return _opened(url.rstrip("/"))
    except ImportError as error:
        raise InputError(
            f"ST_PIPELINE_LAKE is {url!r}, and {error.name or 's3fs'} is not installed; "
            "install it with `pip install st-pipeline[cluster]`"
        ) from None


@lru_cache(maxsize=8)
def _opened(url: str) -> UPath:
    """One client a process."""
    from upath import UPath

    root = UPath(url, use_listings_cache=False)
    with reached(root):
        root.fs  # noqa: B018  the client is made here
    return root


os.register_at_fork(after_in_child=_opened.cache_clear)  # a connection does not survive a fork


@contextmanager
def reached(place: UPath) -> Iterator[None]:
    """Tell of a store that does not answer, or refuses, in one sentence.

    Raises:
        FileNotFoundError: as it comes.
        InputError: anything else that its client complains of.
    """
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # the client's own, of aiohttp, of botocore: they have no common kind
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{place}: the object store cannot be used: {reason}; check address, credentials (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY or a profile) and AWS_ENDPOINT_URL; nothing was changed"
        ) from None


class Bucket:
    """Files of a lake that are objects."""

    def read(self, place: UPath) -> bytes:
        with reached(place):
            payload: bytes = place.fs.cat_file(place.path)
            return payload

    def write(self, place: UPath, payload: bytes) -> None:
        """Put an object; readers see the old one or the new one."""
        try:
            with reached(place):
                place.fs.pipe_file(place.path, payload)
        except FileNotFoundError:
            raise InputError(f"{place}: there is no such bucket; make it, or set ST_PIPELINE_LAKE otherwise") from None

    def stat(self, place: UPath) -> tuple[int, int] | None:
        """Bytes and time of change (nanoseconds, to the second); None if it is not there."""
        try:
            with reached(place):
                found: dict[str, Any] = place.fs.info(place.path)
        except FileNotFoundError:
            return None
        return _facts(found) if found["type"] == "file" else None

    def names(self, folder: UPath) -> list[str]:
        """Names of the files in a folder; none if there is no such folder."""
        return [path.rsplit("/", 1)[-1] for path, kind in self._listed(folder) if kind == "file"]

    def below(self, folder: UPath) -> dict[str, tuple[int, int]]:
        """All files below a folder by relative path, with bytes and time of change."""
        with reached(folder):
            found: dict[str, dict[str, Any]] = folder.fs.find(folder.path, detail=True)
        start = len(folder.path.rstrip("/")) + 1
        return {path[start:]: _facts(one) for path, one in sorted(found.items())}

    def _listed(self, folder: UPath) -> list[tuple[str, str]]:
        try:
            with reached(folder):
                return [(one["name"], one["type"]) for one in folder.fs.ls(folder.path, detail=True)]
        except FileNotFoundError:
            return []


def _facts(found: dict[str, Any]) -> tuple[int, int]:
    changed = found.get("LastModified")
    return int(found["size"]), int(changed.timestamp() * 1e9) if isinstance(changed, datetime) else 0
