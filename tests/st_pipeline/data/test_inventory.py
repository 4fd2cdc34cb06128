"""The inventory tells files apart by their content."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import polars as pl
import pytest

from st_pipeline.data import inventory as module
from st_pipeline.data.inventory import inventory
from st_pipeline.errors import InputError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    contents = {"b.csv": b"two", "a.csv": b"", "deep/b.csv": b"three"}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in contents]


def test_one_row_a_file_whatever_their_order(files: list[Path]) -> None:
    found = inventory(files)
    assert found["file"].to_list() == ["a.csv", "b.csv", "b.csv"]
    assert found["bytes"].sum() == 8
    assert set(found["digest"]) == {blake2b(file.read_bytes(), digest_size=16).hexdigest() for file in files}
    assert found.equals(inventory(reversed(files)))


def test_the_content_counts_and_not_the_time(files: list[Path]) -> None:
    before = inventory(files)
    files[0].write_bytes(b"two")
    assert inventory(files).equals(before)
    files[0].write_bytes(b"owt")
    assert inventory(files)["digest"].to_list() != before["digest"].to_list()


def test_large_files_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    content = bytes(range(100))
    (tmp_path / "a").write_bytes(content)
    found = inventory([tmp_path / "a"]).row(0)
    assert found == ("a", 100, blake2b(content, digest_size=16).hexdigest())


def test_no_files_make_an_empty_table() -> None:
    assert inventory([]).schema == {"file": pl.String, "bytes": pl.Int64, "digest": pl.String}


def test_what_cannot_be_read_is_told(files: list[Path], tmp_path: Path) -> None:
    for path in (tmp_path / "gone.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            inventory([*files, path])
