"""Weather on grids: NetCDF 3, NetCDF 4 and Zarr, packed or not; no file outside, no code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from scipy.io import netcdf_file

LATITUDES, LONGITUDES = np.array([42.5, 47.5]), np.array([5.0, 10.0, 355.0])
HOURS = 30 * 24


@pytest.fixture
def values(wave: Callable[..., Any]) -> Any:
    found = wave(HOURS, 6).reshape(HOURS, 2, 3)
    found[7, 1, 2] = np.nan
    return found


def classic(file: Path, values: Any, first: int = 0) -> None:
    """NetCDF 3, packed in 16 bits."""
    with netcdf_file(file, "w") as handle:
        for name, axis in (("time", np.arange(first, first + len(values))), ("lat", LATITUDES), ("lon", LONGITUDES)):
            handle.createDimension(name, len(axis))
            handle.createVariable(name, "i4" if name == "time" else "f8", (name,))[:] = axis
        handle.variables["time"].units = "hours since 1979-01-01 00:00:0.0"
        packed = handle.createVariable("t2m", "i2", ("time", "lat", "lon"))
        packed[:] = np.where(np.isnan(values), -32767, (np.nan_to_num(values) - 100) * 64)
        packed.scale_factor, packed.add_offset, packed._FillValue = 1 / 64, 100.0, np.int16(-32767)


def modern(file: Path, values: Any) -> None:
    with h5py.File(file, "w") as handle:
        handle["time"] = np.arange(len(values))
        handle["time"].attrs["units"] = "hours since 1979-01-01"
        handle["latitude"], handle["longitude"] = LATITUDES, LONGITUDES
        handle["2m_temperature"] = values.astype("f4")
        handle["geopotential"] = np.ones((len(values), 4, 2, 3))


def store(folder: Path, values: Any, version: Any) -> None:
    group = zarr.open_group(folder, mode="w", zarr_format=version)
    for name, array in (("time", np.arange(len(values))), ("latitude", LATITUDES), ("longitude", LONGITUDES)):
        group.create_array(name, data=array)
    group["time"].attrs["units"] = "hours since 1979-01-01"
    group.create_array("2m_temperature", data=values.astype("f4"), chunks=(100, 2, 3))


@pytest.mark.parametrize("kind", ["classic", "modern", "zarr 2", "zarr 3"])
def test_every_kind_of_file(tmp_path: Path, bring: Any, network: Any, values: Any, kind: str) -> None:
    path = tmp_path / "era5"
    path.mkdir()
    if kind == "classic":
        classic(path / "t_2.nc", values[300:], 300)
        classic(path / "t_1.nc", values[:300])
    elif kind == "modern":
        modern(path / "2m_temperature_1979_5.625deg.nc", values)
    else:
        store(path, values, int(kind[-1]))
    found = network(bring("weatherbench", path))
    ids = [f"{north:g}_{east:g}" for north in LATITUDES for east in (5, 10, -5)]
    place = [found.ids.index(name) for name in ids]
    assert np.array_equal(found.values[:, place, 0], values.reshape(HOURS, 6).astype("f4"), equal_nan=True)
    assert found.times[0] == np.datetime64("1979-01-01")
    assert found.positions["longitude"].min() == -5 and (found.weights > 0).any()


def spoil(path: Path, what: str, values: Any) -> None:
    file = path / "a.nc"
    modern(file, values)
    if what == "units":
        with h5py.File(file, "a") as handle:
            handle["time"].attrs["units"] = "fortnights"
    elif what == "backwards":
        with h5py.File(file, "a") as handle:
            handle["time"][:] = handle["time"][()][::-1]
    elif what == "latitude":
        with h5py.File(file, "a") as handle:
            del handle["latitude"]
    elif what == "levels only":
        with h5py.File(file, "a") as handle:
            del handle["2m_temperature"]
    elif what == "degrees":
        with h5py.File(file, "a") as handle:
            handle["latitude"][:] = 99
    elif what == "link":
        with h5py.File(file, "a") as handle:
            del handle["latitude"]
            handle["latitude"] = h5py.ExternalLink("/etc/x.h5", "/x")
    elif what == "grids":
        modern(path / "b.nc", values)
        with h5py.File(path / "b.nc", "a") as handle:
            handle["latitude"][:] = [1, 2]
    elif what == "text":
        file.write_text("no NetCDF")
    elif what == "gone":
        file.unlink()
    else:
        file.unlink()
        store(path, values, 2)
        document = json.loads((path / "2m_temperature" / ".zarray").read_text())
        document |= {"filters": [{"id": "pickle"}]} if what == "pickle" else {"dtype": "|O"}
        if what == "outside":
            (path / "2m_temperature" / "0.0.0").unlink()
            (path / "2m_temperature" / "0.0.0").symlink_to("/etc/hostname")
        else:
            (path / "2m_temperature" / ".zarray").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("units", "time: found units 'fortnights', expected such as 'hours since 1900-01-01'"),
        ("backwards", "a.nc: time: time 2 is"),
        ("latitude", "there is no coordinate 'lat'"),
        ("levels only", "no variable has the shape (720, 2, 3)"),
        ("degrees", "an axis of the grid holds no different degrees"),
        ("link", "there is no coordinate 'lat'"),
        ("grids", "its grid or variables"),
        ("text", "a.nc: cannot be read as HDF5"),
        ("gone", "there is no NetCDF file (*.nc) and it is no Zarr store"),
        ("pickle", "the array is packed with 'pickle'"),
        ("object", "the array holds '|O'; expected numbers or times"),
        ("outside", "links to a file outside"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, refused: Any, values: Any, what: str, expected: str) -> None:
    path = tmp_path / "era5"
    path.mkdir()
    spoil(path, what, values)
    assert expected in refused("weatherbench", path)


def test_a_variable_that_is_not_there(tmp_path: Path, refused: Any, values: Any) -> None:
    modern(tmp_path / "a.nc", values)
    assert "there is no variable 'tcc' over time" in refused("weatherbench", tmp_path / "a.nc", "variable=tcc")
