"""The lake: paths stay inside it, files are whole or absent, and values come back as they went in."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import InputError
from st_pipeline.storage import (
    FRAME,
    HTML,
    JSON,
    Codec,
    Lake,
    data_root,
    digest,
    digest_of,
    encode_metadata,
    home,
    safetensors_metadata,
)

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
CODECS: list[tuple[Codec[Any], Any]] = [
    (JSON, {"ä": [1, None, "<script>"]}),
    (HTML, "<p>ä</p>"),
    (FRAME, pl.DataFrame({"sensor_id": ["007", None], "day": [date(2024, 1, 1), None], "value": [0.0, None]})),
    (FRAME, pl.DataFrame({"flag": pl.Series(["stuck"], dtype=pl.Enum(["stuck", "spike"]))})),
    (FRAME, pl.DataFrame({"at": pl.Series([datetime(2024, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("ms", "UTC"))})),
]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, pl.DataFrame):
        return first.schema == second.schema and first.equals(second)
    return bool(first == second)


@pytest.mark.parametrize(("codec", "value"), CODECS)
def test_a_value_comes_back_as_it_went_in_and_gives_the_same_bytes(
    tmp_path: Path, codec: Codec[Any], value: Any
) -> None:
    lake, key = Lake(tmp_path), ("stream", "asset")
    lake.write(key, "2024", codec, codec.dump(value))
    found = lake.read(key, "2024", codec)
    assert same(found, value)
    assert codec.dump(found) == codec.dump(value)


@pytest.mark.parametrize(("codec", "value"), [CODECS[0], CODECS[2]])
@pytest.mark.parametrize("harm", [lambda payload: payload[:-3], lambda payload: b"", lambda payload: b"\xff" + payload])
def test_a_damaged_file_is_told_by_its_path(tmp_path: Path, codec: Codec[Any], value: Any, harm: Any) -> None:
    lake = Lake(tmp_path)
    path = lake.write(("s", "asset"), "2024", codec, harm(codec.dump(value)))
    with pytest.raises(InputError) as caught:
        lake.read(("s", "asset"), "2024", codec)
    assert str(path) in str(caught.value)
    assert "damaged" in str(caught.value)
    assert "materialise it again" in str(caught.value)


def test_an_asset_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there; materialise s/eac/backbone of 2024 first"):
        Lake(tmp_path).read(("s", "eac", "backbone"), "2024", JSON)
    (tmp_path / "s" / "asset.json").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be read"):
        Lake(tmp_path).read(("s", "asset"), None, JSON)


@given(part=st.text(max_size=30) | st.sampled_from(["..", ".", "../x", "a/b", "a\\b", "\x00", "", "-x", "a..b", "x\n"]))
def test_no_part_of_a_key_leaves_the_lake(part: str) -> None:
    root = Path("/lake")
    for key, period in (((part, "asset"), "2024"), (("s", part), None), (("s", "asset"), part)):
        try:
            path = Lake(root).path(key, period, "json")
        except InputError:
            continue
        assert path == Path(os.path.normpath(path))
        assert path.is_relative_to(root)
        assert len(path.parts) == 2 + len(key) + (period is not None)


def test_paths_are_those_of_the_architecture() -> None:
    lake = Lake(Path("/lake"))
    assert lake.path(("s", "sensors"), None, "parquet") == Path("/lake/s/sensors.parquet")
    assert lake.path(("s", "tensor"), "2024-01-01", "safetensors") == Path("/lake/s/tensor/2024-01-01.safetensors")
    assert lake.path(("s", "eac", "backbone"), "2024", "json") == Path("/lake/s/eac/backbone/2024.json")


def test_periods_are_those_with_a_whole_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.periods(("s", "asset"), "json") == []
    for period in ("2024-07", "2024-01"):
        lake.write(("s", "asset"), period, JSON, b"{}")
    (tmp_path / "s" / "asset" / ".2025.json.tmp").write_bytes(b"")
    (tmp_path / "s" / "asset" / "2026.parquet").write_bytes(b"")
    assert lake.periods(("s", "asset"), "json") == ["2024-01", "2024-07"]
    assert lake.exists(("s", "asset"), "2024-01", JSON)
    assert not lake.exists(("s", "asset"), "2026", JSON)


@given(document=documents)
def test_the_digest_of_a_document_does_not_depend_on_the_order_of_its_keys(document: Any) -> None:
    pairs = {"a": document, "b": 1}
    assert digest_of(pairs) == digest_of(dict(reversed(pairs.items())))
    assert digest_of(pairs) != digest_of(pairs | {"b": 2})


def test_digests_are_128_bit() -> None:
    assert len(digest(b"")) == 32
    assert digest(b"a") != digest(b"b")


@given(document=st.dictionaries(st.text(), documents, max_size=4))
def test_metadata_travel_in_the_header_of_a_safetensors_file(document: dict[str, Any]) -> None:
    header = json.dumps({"__metadata__": encode_metadata(document)}).encode()
    payload = len(header).to_bytes(8, "little") + header + b"data"
    assert safetensors_metadata(payload) == document


def test_home_and_data_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, find, default in (("HOME", home, ".st_pipeline"), ("DATA", data_root, "data")):
        monkeypatch.delenv(f"ST_PIPELINE_{name}", raising=False)
        assert find() == tmp_path / default
        monkeypatch.setenv(f"ST_PIPELINE_{name}", "")
        assert find() == tmp_path / default
        monkeypatch.setenv(f"ST_PIPELINE_{name}", "elsewhere")
        assert find() == tmp_path / "elsewhere"
