"""Arrays of an archive: real numbers of the expected shape, read without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st_pipeline.errors import InputError, closest
from st_pipeline.readers.npz import open_archive

Array = NDArray[Any]


def real(array: Array, where: str) -> Array:
    """The array if it holds real numbers, in at least 32 bits.

    Raises:
        InputError: it holds something else, or nothing.
    """
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{where}: found type {array.dtype}, expected real numbers")
    if not array.size:
        raise InputError(f"{where}: found shape {array.shape}, expected at least one number")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def npz_array(file: Path, name: str) -> Array:
    """One array of an `.npz` archive.

    Raises:
        InputError: there is none of this name, it is a pickle, or holds no real numbers.
    """
    with open_archive(file) as archive:
        if name not in archive.files:
            raise InputError(f"{file}: there is no array {name!r}; {closest(name, archive.files)}")
        return real(np.asarray(archive[name]), f"{file}: {name}")


def npy_array(file: Path) -> Array:
    """The array of an `.npy` file; see `npz_array`."""
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file}: cannot be read as npy: {reason}") from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"{file}: is an archive of arrays; expected one array")
    return real(found, str(file))


def as_series(array: Array, where: str) -> Array:
    """(L, N) or (L, N, C) as (L, N, C) floats.

    Raises:
        InputError: another number of axes, or infinities.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise InputError(f"{where}: found shape {array.shape}, expected (steps, sensors) or (steps, sensors, channels)")
    values = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
    if np.isinf(values).any():
        raise InputError(f"{where}: found an infinite value; expected numbers, or NaN for what is missing")
    return values
