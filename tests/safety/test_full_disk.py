"""A disk that is full, and one that turns read-only: real ones, small and in memory, where mounting is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.storage import FRAME, lake

MIB = 1 << 20
RunSmall = Callable[[], Any]


@pytest.fixture
def disk(lived_in: Any) -> Iterator[Path]:
    """The home, moved to a disk of 24 MiB."""
    kept = lived_in.folder / "kept"
    lived_in.home.rename(kept)
    lived_in.home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(lived_in.home)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        shutil.copytree(kept, lived_in.home, dirs_exist_ok=True)
        yield lived_in.home
    finally:
        subprocess.run(["umount", "--lazy", str(lived_in.home)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Fill the disk but for some bytes."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    filler.write_bytes(b"\1" * max(0, state.f_bavail * state.f_frsize - leave))
    return filler


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def results(disk: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted((disk / "lake").rglob("*")) if path.is_file()}


def test_the_lake(disk: Path) -> None:
    key = ("small", "readings")
    before, payload = results(disk), os.urandom(2 * MIB)
    filler = fill(disk, leave=MIB)
    with pytest.raises(InputError, match="No space left on device; what was there before is intact"):
        lake().write(key, "2024-01-01", FRAME, payload)
    assert results(disk) == before, "not even a draft is left"
    filler.unlink()
    remount(disk, "ro")
    with pytest.raises(InputError, match="Read-only file system; what was there before is intact"):
        lake().write(key, "2024-01-01", FRAME, payload)
    assert results(disk) == before
    remount(disk, "rw")
    assert lake().write(key, "2024-01-01", FRAME, payload).read_bytes() == payload


def test_resume_states(disk: Path) -> None:
    """The state of before outlives one that does not fit."""
    path = disk / "resume/small/online/2024-01-08/1.safetensors"
    write_atomic(path, b"state")
    filler = fill(disk, leave=MIB)
    with pytest.raises(InputError, match="No space left"):
        write_atomic(path, os.urandom(2 * MIB))
    assert path.read_bytes() == b"state" and len(list(path.parent.iterdir())) == 1
    filler.unlink()
    write_atomic(path, b"newer")
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_run(disk: Path, lived_in: Any, trouble: str) -> None:
    """`run` ends with a sentence, also where it is Dagster's database that cannot be written; then it goes on."""
    (disk / "lake/small/leaderboard.parquet").unlink()
    before = results(disk)
    if trouble == "full":
        filler = fill(disk, leave=0)
    else:
        remount(disk, "ro")
    failed = lived_in.command("run", "small")
    assert failed.returncode in (1, 2)
    said = failed.stdout + failed.stderr
    assert "Traceback" not in said, said[-3000:]
    assert any(words in said for words in ("full", "No space left", "read-only", "Read-only")), said[-3000:]
    assert results(disk) == before
    if trouble == "full":
        filler.unlink()
    else:
        remount(disk, "rw")
    done = lived_in.command("run", "small")
    assert done.returncode == 0, done.stderr
    assert "1 assets materialised" in done.stdout
    assert (disk / "lake/small/leaderboard.parquet").exists()


def test_a_backup(disk: Path, lived_in: Any) -> None:
    """A backup that does not fit leaves neither half a file nor a changed home."""
    from resources.backup import back_up, restore

    target = lived_in.folder / "saved.tar.gz"
    back_up(disk, target)
    filler = fill(disk, leave=MIB // 4)
    whole = lived_in.folder / "other"
    whole.mkdir()
    (whole / "a").write_bytes(os.urandom(MIB))
    with pytest.raises(InputError, match="No space left"):
        back_up(whole, disk / "saved.tar.gz")
    with pytest.raises(InputError, match="No space left on device; nothing is restored"):
        restore(target, disk / "again")
    assert not (disk / "again").exists() and not list(disk.glob(".*.tmp"))
    filler.unlink()
    restore(target, disk / "again")
