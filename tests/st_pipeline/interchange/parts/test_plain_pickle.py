"""Pickles are read without running anything; what is no plain data is refused in one sentence."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.plain_pickle import load_plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_data_of_every_protocol(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    file = tmp_path_factory.getbasetemp() / "plain.pkl"
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain(file) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i8", "|b1", "<U3", "|S4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(tmp_path: Path, protocol: int, kind: str, order: Any) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3) % 4, dtype=kind, order=order)
    ids = ["773869", "767541"]
    file = tmp_path / "adj_mx.pkl"
    file.write_bytes(pickle.dumps([ids, {name: row for row, name in enumerate(ids)}, array, array[1, 2]], protocol))
    names, rows, found, scalar = load_plain(file)
    assert (names, rows) == (ids, {"773869": 0, "767541": 1})
    assert found.dtype == array.dtype and np.array_equal(found, array)
    assert scalar == array[1, 2]


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """As `adj_mx.pkl` of DCRNN: text and the bytes of arrays are both short strings."""
    content = np.array([[0, 0.5], [1, 0]], "<f4").tobytes()
    text = (
        b"\x80\x02]q\x00(U\x06773869q\x01e"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(content)]) + content + b"tb\x86."
    )
    file = tmp_path / "adj_mx.pkl"
    file.write_bytes(text)
    names, found = load_plain(file)
    assert names == ["773869"]
    assert np.array_equal(found, np.array([[0, 0.5], [1, 0]], "<f4"))


class Hostile:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.made = (call, arguments)

    def __reduce__(self) -> Any:
        return self.made


class Stateful:
    def __init__(self) -> None:
        self.value = 1


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "what",
    ["system", "eval", "import", "object array", "class", "state", "ordered", "date", "set", "in an array", "getattr"],
)
def test_what_could_run_is_refused(tmp_path: Path, what: str, protocol: int) -> None:
    trace = tmp_path / "trace"
    array = np.empty(1, dtype=object)
    array[0] = Hostile(os.system, f"touch {trace}")
    values: dict[str, Any] = {
        "system": Hostile(os.system, f"touch {trace}"),
        "eval": [Hostile(eval, f"open({str(trace)!r}, 'w')")],
        "import": {"a": Hostile(__import__, "this")},
        "object array": np.array([None, {}], dtype=object),
        "class": Path,
        "state": Stateful.__new__(Stateful),
        "ordered": OrderedDict(a=1),
        "date": date(2024, 1, 1),
        "set": {1, 2},
        "in an array": array,
        "getattr": Hostile(getattr, "text", "upper"),
    }
    file = tmp_path / "adj_mx.pkl"
    try:
        file.write_bytes(pickle.dumps(values[what], protocol))
    except (pickle.PicklingError, AttributeError):  # a local class has no name to be pickled by
        file.write_bytes(pickle.dumps(Hostile(os.system, f"touch {trace}"), protocol))
    with pytest.raises(InputError, match="the pickle holds") as caught:
        load_plain(file)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


@given(noise=st.binary(max_size=200))
def test_damaged_pickles_end_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "noise.pkl"
    whole = pickle.dumps([["a"], {"a": 0}, np.eye(3)], protocol=2)
    for content in (noise, whole[: len(noise)], whole[:40] + noise + whole[40:]):
        file.write_bytes(content)
        try:
            load_plain(file)
        except InputError as error:
            assert str(file) in str(error)
