"""Versions of stored files: in every file, unseen by its content, newer ones refused, files without one read."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline import formats
from st_pipeline.errors import InputError
from st_pipeline.formats import content, stamp
from st_pipeline.storage import FRAME, HTML, JSON, Codec, lake

KEY = ("s", "a")
FRAME_VALUE = pl.DataFrame({"a": [1, 2, None], "b": ["x", "y", None]})


def tensors() -> tuple[Any, Codec[Any]]:
    from st_pipeline.data.tensors import TENSOR, SeriesTensor

    flags, values = np.zeros((4, 2, 1), np.uint8), np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    return SeriesTensor("p", ("a", "b"), ("q",), "UTC", values, flags, np.arange(4, dtype=np.int64)), TENSOR


VALUES = {
    "parquet": lambda: (FRAME_VALUE, FRAME),
    "empty parquet": lambda: (FRAME_VALUE.clear(), FRAME),
    "json": lambda: ({"a": [1, {"b": None}]}, JSON),
    "list": lambda: ([1, 2], JSON),
    "nothing": lambda: ({}, JSON),
    "html": lambda: ("<p>ä</p>", HTML),
    "safetensors": tensors,
}


def same(one: Any, other: Any, codec: Codec[Any]) -> bool:
    return codec.dump(one) == codec.dump(other)


@pytest.mark.parametrize("kind", VALUES)
def test_what_is_stored_comes_back_and_its_digest_is_that_of_before(workspace: Any, kind: str) -> None:
    value, codec = VALUES[kind]()
    payload = codec.dump(value)
    path = lake().write(KEY, "p", codec, payload)
    stored = path.read_bytes()
    assert (b"st_pipeline_format" in stored) == (kind not in ("list", "nothing"))
    assert codec.dump(lake().read(KEY, "p", codec)) == payload
    if kind != "safetensors":
        assert content(stored, codec.extension) == payload


@pytest.mark.parametrize("kind", VALUES)
def test_files_without_a_version_are_read(workspace: Any, kind: str) -> None:
    value, codec = VALUES[kind]()
    path = lake().write(KEY, "p", codec, codec.dump(value))
    path.write_bytes(codec.dump(value))
    assert same(lake().read(KEY, "p", codec), value, codec)


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind not in ("list", "nothing")])
def test_a_newer_version_is_one_sentence(workspace: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    value, codec = VALUES[kind]()
    with monkeypatch.context() as future:
        future.setattr(formats, "FORMAT", 7)
        path = lake().write(KEY, "p", codec, codec.dump(value))
    with pytest.raises(InputError) as caught:
        lake().read(KEY, "p", codec)
    assert str(caught.value) == (
        f"{path}: is of format 7, and this st-pipeline knows formats up to 1: a newer one wrote it; "
        "install that one, or materialise it again"
    )


def test_other_programs_read_the_files(workspace: Any) -> None:
    path = lake().write(KEY, "p", FRAME, FRAME.dump(FRAME_VALUE))
    assert pl.read_parquet(path).equals(FRAME_VALUE)
    assert pl.from_arrow(pq.read_table(path)).equals(FRAME_VALUE)  # type: ignore[union-attr]
    assert duckdb.sql(f"SELECT * FROM '{path}'").fetchall() == FRAME_VALUE.rows()
    document = lake().write(KEY, "p", JSON, JSON.dump({"a": 1}))
    assert json.loads(document.read_bytes()) == {"st_pipeline_format": 1, "a": 1}
    value, codec = tensors()
    from safetensors.numpy import load_file

    stored = load_file(lake().write(KEY, "p", codec, codec.dump(value)))
    assert (stored["values"] == value.values).all()


@given(payload=st.binary(max_size=60), extension=st.sampled_from(["parquet", "json", "html", "safetensors"]))
def test_any_bytes_survive_being_looked_at(payload: bytes, extension: str) -> None:
    """Damaged files are for the decoders to tell of: nothing here raises."""
    content(payload, extension)
    content(payload + b"PAR1", extension)
    if extension != "safetensors":
        assert content(stamp(payload, extension), extension) == payload


def test_a_document_that_a_tool_has_set_otherwise_is_read() -> None:
    payload = formats.stamp(b'{\n "a": 1\n}\n', "json")
    for indent in (None, 4):
        again = json.dumps(json.loads(payload), indent=indent).encode()
        assert json.loads(formats.content(again, "json")) == {"a": 1}
