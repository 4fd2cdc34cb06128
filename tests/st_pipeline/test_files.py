"""Files are whole or absent, whatever kills their writers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "asset.json"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"asset\.json: cannot be written: No space left on device; .* is intact"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["asset.json"]


WRITE = """
import sys
from pathlib import Path
from st_pipeline.files import write_atomic

print("ready", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_atomic(Path(sys.argv[1]), letter * 3_000_000)
"""


def test_a_writer_killed_at_any_instant_leaves_one_whole_file(tmp_path: Path) -> None:
    path, chance = tmp_path / "asset.parquet", random.Random(0)
    write_atomic(path, b"a" * 3_000_000)
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        writer.communicate()
        content = path.read_bytes()
        assert len(content) == 3_000_000 and len(set(content)) == 1
        assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == [path.name]


def test_what_killed_writers_left_is_removed_when_nobody_can_be_writing_it(tmp_path: Path) -> None:
    path = tmp_path / "asset[1].json"
    old, new, other = (tmp_path / f".{name}.tmp" for name in (f"{path.name}.0", f"{path.name}.1", "asset1.json.0"))
    for file in (old, new, other):
        file.write_bytes(b"half")
    for file in (old, other):
        os.utime(file, (0, 0))
    write_atomic(path, b"{}")
    assert {file.name for file in tmp_path.iterdir()} == {path.name, new.name, other.name}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "asset.json"
    write_atomic(path, b"old")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)  # a test may run as root, for whom no folder is read-only
        with pytest.raises(InputError, match=r"cannot be written: Read-only file system; .* is intact"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        write_atomic(tmp_path / "lake" / "s" / "asset.json", b"{}")


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "asset.json"
    write_atomic(path, b"a long first version")
    write_atomic(path, b"short")
    assert path.read_bytes() == b"short"
    assert [file.name for file in path.parent.iterdir()] == ["asset.json"]
