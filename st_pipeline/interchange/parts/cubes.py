"""Arrays over coordinates: NetCDF 3 (SciPy), NetCDF 4 (h5py) and Zarr, with what is packed unpacked.

No file is read but the named one or those of the store, and no codec that could run code: of Zarr only the plain ones.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.arrays import Array
from st_pipeline.interchange.parts.hdf import HINT, dataset, open_hdf

CODECS = {"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "bytes", "crc32c", "transpose", "endian"}
MOST_METADATA = 10_000_000  # bytes of one document


class Cube(ABC):
    """An open file or store."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path = path
        self.names = names

    @abstractmethod
    def _array(self, name: str) -> Any:
        """The array, which reads the parts that are asked for."""

    @abstractmethod
    def _attributes(self, name: str) -> Any:
        """A mapping of the array's attributes."""

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in self._array(name).shape)

    def attribute(self, name: str, key: str) -> str | None:
        """An attribute as text."""
        found = self._attributes(name).get(key)
        return found.decode() if isinstance(found, bytes) else None if found is None else str(found)

    def read(self, name: str) -> Array:
        """A coordinate as it is stored.

        Raises:
            InputError: it holds no numbers or times.
        """
        array = self._array(name)
        if np.dtype(array.dtype).kind not in "iufM":
            raise InputError(f"{self.path}: {name} holds {array.dtype}, expected numbers")
        return np.asarray(array[:] if array.shape else array[()]).copy()

    def values(self, name: str, part: slice) -> Array:
        """Some steps of a variable, float32: unpacked, NaN where missing.

        Raises:
            InputError: it holds no numbers, or infinities.
        """
        array, attributes = self._array(name), self._attributes(name)
        if np.dtype(array.dtype).kind not in "iuf":
            raise InputError(f"{self.path}: {name} holds {array.dtype}, expected real numbers")
        raw = np.asarray(array[part])
        values = raw.astype(np.float64)
        for key in ("_FillValue", "missing_value"):
            if (filler := attributes.get(key)) is not None:
                values[raw == np.asarray(filler).ravel()[0]] = np.nan
        scale, offset = (
            _number(attributes.get(key), usual) for key, usual in (("scale_factor", 1.0), ("add_offset", 0.0))
        )
        values = values * scale + offset
        if np.isinf(values).any():
            raise InputError(
                f"{self.path}: {name}: found an infinite value; expected numbers, or NaN for what is missing"
            )
        return values.astype(np.float32)


def _number(found: Any, usual: float) -> float:
    return usual if found is None else float(np.asarray(found).ravel()[0])


class _Hdf(Cube):
    def __init__(self, path: Path, handle: Any) -> None:
        import h5py

        inside = [name for name in handle if isinstance(handle.get(name, getlink=True), h5py.HardLink)]
        super().__init__(path, [name for name in inside if isinstance(handle[name], h5py.Dataset)])
        self.handle = handle

    def _array(self, name: str) -> Any:
        return dataset(self.handle, name, self.path)

    def _attributes(self, name: str) -> Any:
        return self._array(name).attrs


class _Classic(Cube):
    def __init__(self, path: Path, handle: Any) -> None:
        super().__init__(path, list(handle.variables))
        self.handle = handle

    def _array(self, name: str) -> Any:
        return self.handle.variables[name].data

    def _attributes(self, name: str) -> Any:
        return self.handle.variables[name]._attributes


class _Zarr(Cube):
    def __init__(self, path: Path, group: Any) -> None:
        super().__init__(path, sorted(group.array_keys()))
        self.group = group

    def _array(self, name: str) -> Any:
        return self.group[name]

    def _attributes(self, name: str) -> Any:
        array = self.group[name]
        filler = array.metadata.fill_value if np.dtype(array.dtype).kind == "f" else None
        return {"_FillValue": filler, **dict(array.attrs)}


@contextmanager
def open_cube(path: Path) -> Iterator[Cube]:
    """An open NetCDF file or Zarr store; whatever is wrong with it is one sentence.

    Raises:
        InputError: it cannot be read, or what reads it is not installed.
    """
    if path.is_dir():
        with _told(path, "Zarr"):
            yield _Zarr(path, _open_zarr(path))
        return
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:3] == b"CDF":
        from scipy.io import netcdf_file

        with _told(path, "NetCDF"), netcdf_file(path, "r", mmap=False) as handle:
            yield _Classic(path, handle)
        return
    with open_hdf(path) as handle:
        yield _Hdf(path, handle)


@contextmanager
def _told(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as its readers have
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read as {kind}: {reason[:200]}") from None


def _open_zarr(path: Path) -> Any:
    """A store whose arrays hold numbers, in codecs that only unpack."""
    try:
        import zarr
    except ImportError:
        raise InputError(f"{path}: reading Zarr needs zarr; {HINT}") from None
    root = path.resolve()
    for file in path.rglob("*"):
        if not file.resolve().is_relative_to(root):
            raise InputError(f"{file}: links to a file outside of {path}; copy the file there instead")
        if file.name in (".zarray", "zarr.json"):
            _check_codecs(file)
    return zarr.open_group(path, mode="r", use_consolidated=False)


def _check_codecs(file: Path) -> None:
    """Refuse an array of objects, and a codec that is not one of the plain ones."""
    if file.stat().st_size > MOST_METADATA:
        raise InputError(f"{file}: {file.stat().st_size:,} bytes; expected the description of an array")
    document = json.loads(file.read_text(encoding="utf-8"))
    if "zarr_format" not in document or (file.name == "zarr.json" and document.get("node_type") != "array"):
        return
    named = [document.get("compressor"), *(document.get("filters") or []), *(document.get("codecs") or [])]
    used = {str(codec.get("id") or codec.get("name")) for codec in named if isinstance(codec, dict)}
    kind = document.get("dtype", document.get("data_type"))
    if unknown := used - CODECS:
        raise InputError(
            f"{file}: the array is packed with {min(unknown)!r}; expected one of {', '.join(sorted(CODECS))}"
        )
    if not isinstance(kind, str) or kind.strip("<>|=")[:1] not in set("iufM") or "O" in kind:
        raise InputError(f"{file}: the array holds {kind!r}; expected numbers or times")
