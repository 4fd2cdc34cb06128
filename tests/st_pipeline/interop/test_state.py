"""Checkpoints are read without running anything that is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from st_pipeline.errors import InputError
from st_pipeline.interop.state import read_state


class Hostile:
    """Would make a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("place", ["beside the tensors", "instead of them", "old format"])
def test_a_hostile_file_is_refused_in_one_sentence_and_nothing_is_run(place: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    content: Any = Hostile(made)
    if place == "beside the tensors":
        content = {"model_state_dict": {"a": torch.zeros(2)}, "args": Hostile(made)}
    path = tmp_path / "hostile.pkl"
    torch.save(content, path, _use_new_zipfile_serialization=place != "old format")
    with pytest.raises(InputError, match=r"is no checkpoint of tensors alone .* nothing in it was run") as found:
        read_state(path)
    assert "\n" not in str(found.value)
    assert not made.exists()
    torch.load(path, weights_only=False)  # the file does what it says
    assert made.exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", b"\x80\x04."])
def test_what_is_no_checkpoint_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no checkpoint of tensors alone"):
        read_state(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_state(tmp_path / "nothing.pkl")
    with pytest.raises(InputError, match=r"cannot be read|is no checkpoint"):
        read_state(tmp_path)


def test_what_is_no_state_is_refused(save: Any) -> None:
    for content in ([1, 2], {}, {"model_state_dict": {"epoch": 3}}, torch.zeros(3)):
        with pytest.raises(InputError, match="expected a dictionary of tensors"):
            read_state(save(content, plain=True))
    for value in (torch.tensor([1.0, float("nan")]), torch.tensor([1, 2])):
        with pytest.raises(InputError, match="a holds values that are no finite numbers"):
            read_state(save({"a": value}))


def test_half_and_double_numbers_become_single(save: Any) -> None:
    state = read_state(save({"a": torch.ones(2, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float16)}))
    assert {part.dtype for part in state.tensors.values()} == {torch.float32}
