"""The lake: where results lie, how they are written, and how a value becomes bytes and back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.files import Folder
from st_pipeline.formats import content, stamp
from st_pipeline.object_store import Bucket, open_bucket

if TYPE_CHECKING:
    from upath import UPath

T = TypeVar("T")
Place: TypeAlias = "Path | UPath"  # where a file of a lake lies
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


class Files(Protocol):
    """What reads and writes the files of a lake, on a disk or in an object store."""

    def read(self, place: Any) -> bytes: ...

    def write(self, place: Any, payload: bytes) -> None: ...

    def stat(self, place: Any) -> tuple[int, int] | None: ...

    def names(self, folder: Any) -> list[str]: ...

    def below(self, folder: Any) -> dict[str, tuple[int, int]]: ...


def files_at(place: Place) -> Files:
    """What reads and writes files there: `Folder` or `Bucket`."""
    return Folder() if isinstance(place, Path) else Bucket()


@dataclass(frozen=True)
class Lake:
    """Files at `<stream>/[<model>/]<asset>/<period>.<ext>` under the root, without periods `<stream>/<asset>.<ext>`.

    The root is a folder, or a place in an object store.
    """

    root: Place

    @property
    def files(self) -> Files:
        """What reads and writes the files of this lake: `Folder` or `Bucket`."""
        return files_at(self.root)

    def path(self, key: tuple[str, ...], period: str | None, extension: str) -> Place:
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
        return self.stat(key, period, codec) is not None

    def stat(self, key: tuple[str, ...], period: str | None, codec: Codec[Any]) -> tuple[int, int] | None:
        """Bytes of an asset's file and its time of change in nanoseconds; None if it is not there."""
        return self.files.stat(self.path(key, period, codec.extension))

    def write(
        self, key: tuple[str, ...], period: str | None, codec: Codec[T], payload: bytes, *, description: bytes = b""
    ) -> Place:
        """Write a value's bytes, and its description beside them if it has one."""
        path = self.path(key, period, codec.extension)
        self.files.write(path, stamp(payload, codec.extension))
        if description:
            self.files.write(path.with_name(f"{path.stem}.json"), description)
        return path

    def payload(self, key: tuple[str, ...], period: str | None, codec: Codec[Any]) -> bytes:
        """A value's bytes, as they were given to `write`.

        Raises:
            FileNotFoundError: it is not there.
            InputError: it cannot be read, or is of a newer version.
        """
        path = self.path(key, period, codec.extension)
        try:
            return content(self.files.read(path), codec.extension)
        except InputError as error:
            raise InputError(_at(path, error)) from None

    def read(self, key: tuple[str, ...], period: str | None, codec: Codec[T]) -> T:
        """The value of an asset.

        Raises:
            InputError: it is not there, or its file is damaged.
        """
        path = self.path(key, period, codec.extension)
        try:
            payload = self.payload(key, period, codec)
        except FileNotFoundError:
            name = "/".join(key) + (f" of {period}" if period else "")
            raise InputError(f"{path}: not there; materialise {name} first") from None
        try:
            return codec.load(payload)
        except InputError as error:
            raise InputError(_at(path, error)) from None
        except (Exception, pl.exceptions.PanicException) as error:  # any decoder's complaint means the same to the user
            reason = f"{type(error).__name__}: {error}"[:200]
            raise InputError(f"{path}: damaged ({reason}); materialise it again") from None

    def scan(self, key: tuple[str, ...], period: str | None) -> pl.LazyFrame:
        """A table of which only what is asked for is decoded; of an object store all bytes are fetched.

        Raises:
            InputError: it cannot be read.
        """
        path = self.path(key, period, FRAME.extension)
        return pl.scan_parquet(path if isinstance(path, Path) else BytesIO(self.files.read(path)))

    def periods(self, key: tuple[str, ...], extension: str) -> list[str]:
        """Keys of the periods whose file exists, in order."""
        names = self.files.names(self.path(key, "0", extension).parent)
        ending = f".{extension}"
        return sorted(name.removesuffix(ending) for name in names if name.endswith(ending) and not name.startswith("."))


def _at(path: Place, error: InputError) -> str:
    """A complaint that says which file it is of."""
    return str(error) if str(error).startswith(str(path)) else f"{path}: {error}"


def lake() -> Lake:
    """The lake: `ST_PIPELINE_LAKE`, a folder or `s3://bucket/prefix`; by default `lake` under `ST_PIPELINE_HOME`.

    Raises:
        InputError: the address is of another kind, or what it needs is not installed.
    """
    where = os.environ.get("ST_PIPELINE_LAKE") or str(home() / "lake")
    return Lake(open_bucket(where) if "://" in where else Path(where).resolve())


def encode_metadata(document: Mapping[str, Any]) -> dict[str, str]:
    """A JSON document as the text-to-text header that a safetensors file carries."""
    return {"json": json.dumps(document, sort_keys=True)}


def safetensors_metadata(payload: bytes) -> dict[str, Any]:
    """The document `encode_metadata` put into a safetensors file."""
    length = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + length])
    document: dict[str, Any] = json.loads(header["__metadata__"]["json"])
    return document
