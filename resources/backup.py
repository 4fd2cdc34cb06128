"""A home in one archive, taken while it is in use, and back.

The instance's databases come first, then everything else: a result's record is written after its file, so that no
record in the archive tells of a file that is not there. What was stored meanwhile is made again after a restore.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from resources.archive import INSIDE, MANIFEST, Digesting, compression, members
from st_pipeline import __version__
from st_pipeline.errors import InputError
from st_pipeline.storage import digest_of, dump_json
from st_pipeline.versions import VERSIONS

FORMAT = 1
BLOCK = 1 << 20
SQLITE = b"SQLite format 3\0"
BESIDE = ("-wal", "-shm", "-journal")  # of a database, which is copied whole
OF_ONE_MACHINE = (".lock", ".owner.json", ".leave.json")


def back_up(home: Path, target: Path, *, busy: str | None = None) -> dict[str, Any]:
    """Write an archive of a home; returns its manifest.

    Args:
        target: ends in .tar.zst or .tar.gz; must not exist.
        busy: who works in the home meanwhile, for the manifest.

    Raises:
        InputError: there is nothing to save, or the archive cannot be written.
    """
    _check_target(home, target)
    draft = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    files: dict[str, dict[str, Any]] = {}
    manifest = {**_origin(), "busy": busy, "files": files}
    try:
        with _writing(draft, compression(target)) as archive:
            for path in _ordered(home):
                with suppress(FileNotFoundError), _steady(path) as file:  # removed by its owner meanwhile
                    files[path.relative_to(home).as_posix()] = _add(archive, path.relative_to(home), file)
            _add_bytes(archive, MANIFEST, dump_json({**manifest, "digest": digest_of(manifest)}))
        _publish(draft, target)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise InputError(f"{target}: the backup cannot be written: {error}; the home is as it was") from None
    return manifest


def restore(archive: Path, home: Path) -> dict[str, Any]:
    """Bring a home back; everything is verified before anything is written. Returns the manifest.

    Raises:
        InputError: the archive is damaged, unsafe or of a newer version, or the home is not empty.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise InputError(
            f"{home} is not empty, and restoring overwrites nothing; move it away (mv {home} {home}.old), "
            "or name another folder with --into"
        )
    manifest = verify(archive)
    draft = home.with_name(f".{home.name}.{uuid4().hex}.tmp")
    try:
        draft.mkdir(parents=True)
        for name, file in members(archive):
            if name != MANIFEST:
                _extract(file, draft / name.removeprefix(INSIDE), manifest["files"][name.removeprefix(INSIDE)])
        with suppress(FileNotFoundError):
            home.rmdir()
        draft.replace(home)
    except OSError as error:
        raise InputError(f"{home}: cannot be written: {error.strerror or error}; nothing is restored") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def verify(archive: Path) -> dict[str, Any]:
    """The manifest of an archive whose every file is there with its digest.

    Raises:
        InputError: it is damaged, unsafe or of a newer version.
    """
    found: dict[str, str] = {}
    manifest: Any = None
    for name, file in members(archive):
        if name == MANIFEST:
            manifest = _manifest(archive, file.read())
            continue
        while file.read(BLOCK):
            pass
        found[name.removeprefix(INSIDE)] = file.state.hexdigest()
    if manifest is None:
        raise InputError(f"{archive}: has no manifest, so it is cut off or no backup of st-pipeline; take another one")
    wanted = {name: one["digest"] for name, one in manifest["files"].items()}
    if other := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise InputError(
            f"{archive}: {len(other)} files differ from the manifest, e.g. {other[0]}; "
            "the archive is damaged, take another one"
        )
    return dict(manifest)


def _check_target(home: Path, target: Path) -> None:
    compression(target)
    if not home.is_dir() or not any(home.iterdir()):
        raise InputError(f"{home}: there is nothing to back up yet")
    if target.exists():
        raise InputError(f"{target} is there already; a backup overwrites nothing, choose another name")
    if target.resolve().is_relative_to(home):
        raise InputError(f"{target} lies in the home that is to be saved; choose a place outside {home}")


def _origin() -> dict[str, Any]:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    packages = {"st-pipeline": __version__, "dagster": version("dagster")}
    return {"what": "backup of st-pipeline", "format": FORMAT, "made": made, **packages, "versions": VERSIONS}


def _ordered(home: Path) -> list[Path]:
    """Files of a home that are saved: databases first."""
    found = [path for path in sorted(home.rglob("*")) if _is_kept(path.relative_to(home)) and path.is_file()]
    return sorted((path for path in found if not path.is_symlink()), key=lambda path: not _is_database(path))


def _is_kept(path: Path) -> bool:
    """Whether a file is no draft, no lock, and nothing of a database that its copy holds already."""
    if any(part.startswith(".") for part in path.parts[:-1]) or path.name.endswith(BESIDE):
        return False
    return not (path.name.startswith(".") and path.suffix == ".tmp") and not path.name.endswith(OF_ONE_MACHINE)


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.suffix == ".db" and file.read(len(SQLITE)) == SQLITE
    except FileNotFoundError:
        return False


@contextmanager
def _steady(path: Path) -> Iterator[IO[bytes]]:
    """A file that does not change while it is read: of a database a copy, which SQLite makes."""
    with ExitStack() as stack:
        if not _is_database(path):
            yield stack.enter_context(path.open("rb"))
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="st_pipeline_")))
        source = stack.enter_context(closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)))
        with closing(sqlite3.connect(folder / "copy.db")) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        yield stack.enter_context((folder / "copy.db").open("rb"))


@contextmanager
def _writing(draft: Path, kind: str) -> Iterator[tarfile.TarFile]:
    import pyarrow as pa

    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    with pa.CompressedOutputStream(str(draft), kind) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        yield archive


def _add(archive: tarfile.TarFile, name: Path, file: IO[bytes]) -> dict[str, Any]:
    """Add as many bytes as the file has now."""
    facts, reader = os.fstat(file.fileno()), Digesting(file)
    member = tarfile.TarInfo(INSIDE + name.as_posix())
    member.size, member.mtime, member.mode = facts.st_size, int(facts.st_mtime), 0o600
    archive.addfile(member, reader)
    return {"bytes": member.size, "digest": reader.state.hexdigest()}


def _add_bytes(archive: tarfile.TarFile, name: str, payload: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(payload), 0o600
    archive.addfile(member, BytesIO(payload))


def _publish(draft: Path, target: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def _manifest(archive: Path, payload: bytes) -> dict[str, Any]:
    try:
        document = json.loads(payload)
        number, dagster = int(document["format"]), str(document["dagster"])
        own = document.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{archive}: its manifest cannot be read; the archive is damaged, take another one") from None
    if number > FORMAT or _numbers(dagster) > _numbers(version("dagster")):
        raise InputError(
            f"{archive}: made by st-pipeline {document.get('st-pipeline')} (format {number}, Dagster {dagster}), which "
            f"is newer than this one ({__version__}, format {FORMAT}, Dagster {version('dagster')}); install that one"
        )
    if own != digest_of(document):
        raise InputError(f"{archive}: its manifest differs from its digest; the archive is damaged, take another one")
    return dict(document)


def _numbers(text: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in text.split(".")]


def _extract(file: Digesting, path: Path, wanted: dict[str, Any]) -> None:
    """Write one file; its digest is looked at once more, since the archive may have changed since."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        while block := file.read(BLOCK):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if file.state.hexdigest() != wanted["digest"]:
        raise OSError(f"{path.name} changed while it was read")
