"""KnowAir: the last channel of an array, cities from a text file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def archive(tmp_path: Path, wave: Any) -> Path:
    values = wave(720, 3, day=8)
    np.save(tmp_path / "KnowAir.npy", np.stack([values + 1, values + 2, values], axis=2))
    (tmp_path / "city.txt").write_text("0 Beijing 116.4 39.9\n1 Ulan Qab 113.1 41.0\n2 Tianjin 117.2 39.1\n")
    return tmp_path


def test_the_whole_archive(archive: Path, bring: Any, network: Any, wave: Any) -> None:
    found = network(bring("knowair", archive))
    assert np.array_equal(found.values[:, :, 0], wave(720, 3, day=8).astype("f4"))
    assert found.times[0] == np.datetime64("2015-01-01")
    assert found.positions["name"].to_list() == ["Beijing", "Ulan Qab", "Tianjin"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 Beijing 116.4 39.9\n", "found 1 cities, expected 3"),
        ("0 Beijing east north\n", "line 1: found '0 Beijing east"),
    ],
)
def test_what_cannot_be_used(archive: Path, refused: Any, text: str, expected: str) -> None:
    (archive / "city.txt").write_text(text)
    assert expected in refused("knowair", archive)


def test_arrays_of_objects(archive: Path, refused: Any) -> None:
    np.save(archive / "KnowAir.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    assert "Object arrays cannot be loaded" in refused("knowair", archive)
