"""HDF5 files: tables that pandas wrote (`format="fixed"`) and plain arrays, read without pandas, PyTables or pickles.

pandas keeps a frame in a group with `axis0` (columns), `axis1` (index) and, for each block of columns of one type,
`blockK_items` and `blockK_values` (rows, columns); an axis of text or numbers is stored as such, one of other objects
as a pickle, which is refused. Links and storage outside of the file are refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.arrays import Array, real

HINT = "pip install 'st-pipeline[formats]'"


@dataclass(frozen=True, eq=False)
class Table:
    """A frame: values (rows, columns), the names of the columns, and the index: datetime64[ms], text or numbers."""

    values: Array
    columns: tuple[str, ...]
    index: Array


@contextmanager
def open_hdf(file: Path) -> Iterator[Any]:
    """An open HDF5 file; whatever is wrong with it is one sentence.

    Raises:
        InputError: it cannot be read, or h5py is not installed.
    """
    try:
        import h5py  # an optional dependency
    except ImportError:
        raise InputError(f"{file}: reading HDF5 needs h5py; {HINT}") from None
    try:
        with h5py.File(file, "r") as handle:
            yield handle
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file}: cannot be read as HDF5: {reason[:200]}") from None


def dataset(group: Any, name: str, file: Path) -> Any:
    """A data set that lies in the file itself.

    Raises:
        InputError: there is none, or it is a link to or stored in another file.
    """
    import h5py

    if name not in group:
        raise InputError(
            f"{file}: there is no array {group.name.rstrip('/')}/{name}; found {', '.join(group) or 'none'}"
        )
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"{file}: {name} is a link; expected the array itself")
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{file}: {name} is a group; expected an array")
    if found.external or found.is_virtual:
        raise InputError(f"{file}: {name} is stored in another file; expected the array itself")
    return found


def read_axes(file: Path) -> tuple[tuple[str, ...], Array]:
    """Columns and index of the only pandas table of a file."""
    with open_hdf(file) as handle:
        group = _frame_group(handle, file)
        return tuple(map(str, _axis(group, "axis0", file))), _axis(group, "axis1", file)


def read_table(file: Path) -> Table:
    """The only pandas table of a file.

    Raises:
        InputError: there is none or more than one, or it is stored in another way.
    """
    with open_hdf(file) as handle:
        group = _frame_group(handle, file)
        columns, index = _axis(group, "axis0", file), _axis(group, "axis1", file)
        blocks = sorted(name.removesuffix("_values") for name in group if re.fullmatch(r"block[0-9]+_values", name))
        items = [_axis(group, f"{block}_items", file) for block in blocks]
        parts = [real(np.asarray(dataset(group, f"{name}_values", file)[()]), f"{file}: {name}") for name in blocks]
    named = [str(name) for part in items for name in part]
    values = np.concatenate(parts, axis=1)
    if values.shape != (len(index), len(columns)) or sorted(named) != sorted(map(str, columns)):
        raise InputError(
            f"{file}: found values of shape {values.shape}, expected ({len(index)}, {len(columns)}) as the index "
            "and the columns say"
        )
    place = {name: column for column, name in enumerate(named)}
    order = [place[str(name)] for name in columns]
    if len(place) < len(named):
        raise InputError(f"{file}: a column is named twice; expected each sensor once")
    return Table(values if order == list(range(len(order))) else values[:, order], tuple(map(str, columns)), index)


def _frame_group(handle: Any, file: Path) -> Any:
    """The group of the only pandas table."""
    import h5py

    inside = [name for name in handle if isinstance(handle.get(name, getlink=True), h5py.HardLink)]
    groups = [
        handle[name] for name in inside if isinstance(handle[name], h5py.Group) and "block0_values" in handle[name]
    ]
    if len(groups) != 1:
        raise InputError(
            f"{file}: expected one table as pandas' to_hdf writes it (format='fixed'), "
            f"found {len(groups)} among {', '.join(handle) or 'nothing'}"
        )
    return groups[0]


def _axis(group: Any, name: str, file: Path) -> Array:
    """Names, numbers or datetime64[ns] of one axis."""
    found = dataset(group, name, file)
    if found.dtype.kind not in "SiufU" or found.ndim != 1:
        raise InputError(
            f"{file}: {name} holds {found.dtype}, which would be unpickled; "
            "write the table with text or numbers on its axes"
        )
    kind = found.attrs.get("kind", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    axis = np.asarray(found[()])
    if kind.startswith("datetime"):
        unit = kind.partition("[")[2].rstrip("]") or "ns"
        if axis.dtype.kind != "i" or unit not in ("s", "ms", "us", "ns"):
            raise InputError(f"{file}: {name} holds {kind} as {axis.dtype}; expected times as whole numbers")
        return np.asarray(axis.astype(f"datetime64[{unit}]").astype("datetime64[ms]"))
    return np.char.decode(axis, "utf-8") if axis.dtype.kind == "S" else axis


def write_table(file: Path, values: Array, columns: Sequence[str], times: Array) -> None:
    """Write a frame of numbers as pandas' `to_hdf(key="df", format="fixed")` does: values (L, N), times datetime64."""
    import h5py

    text = {"axis0_variety": "regular", "axis1_variety": "regular", "block0_items_variety": "regular"}
    text |= {"encoding": "UTF-8", "errors": "strict", "pandas_type": "frame", "pandas_version": "0.15.2"}
    names = np.char.encode(np.array(columns, dtype=str), "utf-8")
    axis = {"kind": "string"}
    with h5py.File(file, "w") as handle:
        _attributes(handle, {"CLASS": "GROUP", "PYTABLES_FORMAT_VERSION": "2.1", "TITLE": "", "VERSION": "1.0"})
        group = handle.create_group("df")
        _attributes(group, {"CLASS": "GROUP", "TITLE": "", "VERSION": "1.0", **text})
        group.attrs["nblocks"], group.attrs["ndim"] = np.int64(1), np.int64(2)
        arrays = {
            "axis0": (names, axis),
            "axis1": (times.astype("datetime64[ns]").astype(np.int64), {"kind": "datetime64[ns]"}),
            "block0_items": (names, axis),
            "block0_values": (values, {}),
        }
        for name, (array, attributes) in arrays.items():
            stored = group.create_dataset(name, data=array)
            _attributes(stored, {"CLASS": "ARRAY", "FLAVOR": "numpy", "TITLE": "", "VERSION": "2.4", **attributes})
            stored.attrs["transposed"] = np.uint8(1)


def _attributes(target: Any, given: dict[str, str]) -> None:
    """Texts as PyTables writes them: UTF-8 of fixed length."""
    import h5py

    for name, text in given.items():
        written = text.encode()
        target.attrs.create(name, written, dtype=h5py.string_dtype("utf-8", max(1, len(written))))
