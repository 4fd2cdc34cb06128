"""The archives that backups are kept in: compressed tar files of plain files."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO

from st_pipeline.errors import InputError

MANIFEST = "manifest.json"
INSIDE = "home/"
ENDINGS = {".tar.zst": "zstd", ".tar.gz": "gzip"}


@dataclass
class Digesting:
    """A file, of an archive or of a home, that is read once, and the digest of what was read."""

    file: IO[bytes]
    archive: Path | None = None

    def __post_init__(self) -> None:
        self.state = blake2b(digest_size=16)

    def read(self, size: int = -1) -> bytes:
        with _legible(self.archive):
            block = self.file.read(size)
        self.state.update(block)
        return block


def compression(path: Path) -> str:
    """How an archive of that name is compressed.

    Raises:
        InputError: the name says nothing known.
    """
    for ending, kind in ENDINGS.items():
        if path.name.endswith(ending) and path.name != ending:
            return kind
    raise InputError(f"{path}: expected a name that ends in {' or '.join(ENDINGS)}")


@contextmanager
def _legible(archive: Path | None) -> Iterator[None]:
    """Tell of an archive that cannot be read in one sentence."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{archive}: there is no such file") from None
    except (OSError, EOFError, tarfile.TarError, pa.ArrowException) as error:
        if archive is None:
            raise
        raise InputError(f"{archive}: cannot be read as an archive ({error}); take another backup") from None


def members(archive: Path) -> Iterator[tuple[str, Digesting]]:
    """Names and contents of the files in an archive.

    Raises:
        InputError: it cannot be read, or holds something else than plain files under their own names.
    """
    import pyarrow as pa

    kind, seen = compression(archive), set[str]()
    with ExitStack() as stack:
        with _legible(archive):
            stream = stack.enter_context(pa.CompressedInputStream(str(archive), kind))
            tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
        while True:
            with _legible(archive):
                member = tar.next()
            if member is None:
                return
            _check_member(archive, member, seen)
            file = tar.extractfile(member)
            assert file is not None
            yield member.name, Digesting(file, archive)


def _check_member(archive: Path, member: tarfile.TarInfo, seen: set[str]) -> None:
    inner = member.name.removeprefix(INSIDE)
    parts = PurePosixPath(inner).parts
    plain = member.name == MANIFEST or (member.name.startswith(INSIDE) and inner == "/".join(parts) != "")
    if not member.isreg() or not plain or {"..", "."} & set(parts) or inner.startswith("/") or "\0" in inner:
        raise InputError(
            f"{archive}: holds {member.name[:80]!r}, which is no plain file of a home; nothing is restored"
        )
    if member.name in seen:
        raise InputError(f"{archive}: holds {member.name[:80]!r} twice; nothing is restored")
    seen.add(member.name)
