"""The lake: where results lie, how they are written, and how a value becomes bytes and back."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.formats import content, stamp

T = TypeVar("T")
ABANDONED = 3600.0  # seconds after which nobody is writing a temporary file any more
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def home() -> Path:
    """Folder of all state: `ST_PIPELINE_HOME`, by default `.st_pipeline` in the working directory."""
    return Path(os.environ.get("ST_PIPELINE_HOME") or ".st_pipeline").resolve()


def data_root() -> Path:
    """Folder under which raw data that are not shipped are looked up: `ST_PIPELINE_DATA`, by default `data`."""
    return Path(os.environ.get("ST_PIPELINE_DATA") or "data").resolve()


def digest(payload: bytes) -> str:
    """128-bit content digest, in hexadecimal."""
    return blake2b(payload, digest_size=16).hexdigest()


def digest_of(document: Any) -> str:
    """Digest of anything JSON can hold; keys are sorted, everything else is written as text."""
    return digest(json.dumps(document, sort_keys=True, default=str).encode())


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


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How values of one kind become a file: extension, value -> bytes, bytes -> value.

    `describe` gives a JSON document that is written beside the file, for people; nothing reads it.
    """

    extension: str
    dump: Callable[[T], bytes]
    load: Callable[[bytes], T]
    describe: Callable[[T], bytes] | None = None


def dump_frame(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def dump_json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


FRAME: Codec[pl.DataFrame] = Codec("parquet", dump_frame, lambda payload: pl.read_parquet(BytesIO(payload)))
JSON: Codec[Any] = Codec("json", dump_json, json.loads)
HTML: Codec[str] = Codec("html", str.encode, bytes.decode)


@dataclass(frozen=True)
class Lake:
    """Files at `<stream>/[<model>/]<asset>/<period>.<ext>` under the root, without periods `<stream>/<asset>.<ext>`."""

    root: Path

    def path(self, key: tuple[str, ...], period: str | None, extension: str) -> Path:
        """Where an asset lies.

        Raises:
            InputError: a part of the key could leave the lake.
        """
        parts = [*key, *([period] if period is not None else [])]
        if bad := [part for part in parts if not SAFE.fullmatch(part) or ".." in part]:
            raise InputError(
                f"{bad[0][:60]!r} cannot be part of a path; expected at most 200 letters, digits, '_', '-' and '.'"
            )
        return self.root.joinpath(*parts[:-1], f"{parts[-1]}.{extension}")

    def exists(self, key: tuple[str, ...], period: str | None, codec: Codec[Any]) -> bool:
        return self.path(key, period, codec.extension).is_file()

    def write(
        self, key: tuple[str, ...], period: str | None, codec: Codec[T], payload: bytes, *, description: bytes = b""
    ) -> Path:
        """Write a value's bytes, and its description beside them if it has one."""
        path = self.path(key, period, codec.extension)
        write_atomic(path, stamp(payload, codec.extension))
        if description:
            write_atomic(path.with_name(f"{path.stem}.json"), description)
        return path

    def read(self, key: tuple[str, ...], period: str | None, codec: Codec[T]) -> T:
        """The value of an asset.

        Raises:
            InputError: it is not there, or its file is damaged.
        """
        path = self.path(key, period, codec.extension)
        try:
            payload = path.read_bytes()
        except FileNotFoundError:
            name = "/".join(key) + (f" of {period}" if period else "")
            raise InputError(f"{path}: not there; materialise {name} first") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        try:
            return codec.load(content(payload, codec.extension))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (Exception, pl.exceptions.PanicException) as error:  # any decoder's complaint means the same to the user
            reason = f"{type(error).__name__}: {error}"[:200]
            raise InputError(f"{path}: damaged ({reason}); materialise it again") from None

    def periods(self, key: tuple[str, ...], extension: str) -> list[str]:
        """Keys of the periods whose file exists, in order."""
        folder = self.path(key, "0", extension).parent
        return sorted(path.stem for path in folder.glob(f"*.{extension}") if not path.name.startswith("."))


def lake() -> Lake:
    """The lake under `ST_PIPELINE_HOME`."""
    return Lake(home() / "lake")


def encode_metadata(document: Mapping[str, Any]) -> dict[str, str]:
    """A JSON document as the text-to-text header that a safetensors file carries."""
    return {"json": json.dumps(document, sort_keys=True)}


def safetensors_metadata(payload: bytes) -> dict[str, Any]:
    """The document `encode_metadata` put into a safetensors file."""
    length = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + length])
    document: dict[str, Any] = json.loads(header["__metadata__"]["json"])
    return document
