"""WeatherBench: weather on a grid of latitude and longitude, every cell a sensor.

Layout (pangeo-data/WeatherBench; google-research/weatherbench2): NetCDF files such as
`2m_temperature_1979_5.625deg.nc`, or a Zarr store, with coordinates `time` (CF: `hours since 1900-01-01`), `lat` or
`latitude`, `lon` or `longitude`, and variables over these three, packed with `scale_factor` and `add_offset` or not.
Variables with levels are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.errors import InputError, closest
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array
from st_pipeline.interchange.parts.cubes import Cube, open_cube
from st_pipeline.interchange.parts.files import files_of
from st_pipeline.interchange.parts.long_draft import ROWS, Facts, Grid, as_datetime, long_draft, step_of
from st_pipeline.registry import IMPORTERS

NEIGHBOURS = "{recipe: knn, k: 8}  # guessed: the cells around each"
LATITUDES, LONGITUDES = ("lat", "latitude"), ("lon", "longitude")
UNITS = {"hours": 3600, "hour": 3600, "minutes": 60, "seconds": 1, "days": 86400}


@IMPORTERS.register
def weatherbench(path: Path, *, variable: str | None = None) -> Draft:
    """All variables over time, latitude and longitude, or the one named; files follow each other in time."""
    stores = _stores(path)
    opened = []
    for store in stores:
        with open_cube(store) as cube:
            opened.append((_times(cube), store, _axes(cube), _names(cube, variable)))
    opened.sort(key=lambda item: item[0][0])
    axes, names = opened[0][2], opened[0][3]
    for _, store, other, found in opened[1:]:
        if found != names or not all(np.array_equal(one, two) for one, two in zip(axes, other, strict=True)):
            raise InputError(
                f"{store}: its grid or variables {found} are not those of {opened[0][1].name}, {names}; "
                "import each variable as a stream of its own"
            )
    times = np.concatenate([item[0] for item in opened])
    step = step_of(times, f"{path}: time")
    latitude, longitude = (part.ravel() for part in np.meshgrid(*axes, indexing="ij"))
    longitude = np.where(longitude > 180, longitude - 360, longitude)
    ids = tuple(f"{north:g}_{east:g}" for north, east in zip(latitude, longitude, strict=True))
    ours = [re.sub(r"\W+", "_", name).strip("_").lower() for name in names]
    ours = [name if not name[:1].isdigit() else f"value_{name}" for name in ours]
    facts = Facts(
        f"{', '.join(names)} on a grid of {len(axes[0])} by {len(axes[1])}"[:200],
        {name: {} for name in ours},
        as_datetime(times[0]),
        as_datetime(times[-1]),
        step,
        guessed={"timezone": "guessed: weather is kept in UTC"},
    )
    sensors = pl.DataFrame({"sensor_id": ids, "latitude": latitude, "longitude": longitude})
    frames = _frames([item[1] for item in opened], names, ours, ids)
    return long_draft(facts, frames, sensors=sensors, graph=NEIGHBOURS)


def _stores(path: Path) -> list[Path]:
    """NetCDF files, or a Zarr store."""
    metadata = files_of(path, "zarr.json", ".zgroup") if path.is_dir() else []
    if path.is_dir() and (metadata or (path / ".zgroup").is_file()):
        return [path]
    found = files_of(path, "*.nc", "*.nc4", "*.netcdf", "*.h5")
    if not found:
        raise InputError(f"{path}: there is no NetCDF file (*.nc) and it is no Zarr store")
    return found


def _pick(cube: Cube, names: Sequence[str]) -> str:
    name = next((name for name in names if name in cube.names), None)
    if name is None:
        raise InputError(f"{cube.path}: there is no coordinate {names[0]!r}; found {', '.join(cube.names)}")
    return name


def _axes(cube: Cube) -> tuple[Array, Array]:
    """Latitudes and longitudes of the grid."""
    found = tuple(cube.read(_pick(cube, names)).astype(np.float64) for names in (LATITUDES, LONGITUDES))
    for axis, limit in zip(found, (90, 360), strict=True):
        if axis.ndim != 1 or not len(axis) or not (np.abs(axis) <= limit).all() or len(np.unique(axis)) < len(axis):
            raise InputError(f"{cube.path}: an axis of the grid holds no different degrees; found shape {axis.shape}")
    return found[0], found[1]


def _times(cube: Cube) -> Array:
    """datetime64[ms] of the steps, by their CF units."""
    name = _pick(cube, ("time",))
    raw, units = cube.read(name), cube.attribute(name, "units")
    match = re.fullmatch(r"(\w+) since ([0-9]{4}-[0-9]{1,2}-[0-9]{1,2})[T ]?([0-9:.]*).*", units or "")
    if raw.dtype.kind == "M":
        times = raw.astype("datetime64[ms]")
    elif match and match[1] in UNITS:
        clock = (match[3] or "00:00").split(":")
        hour, minute = (int(float(part)) for part in (*clock, "0")[:2])
        year, month, day = (int(part) for part in match[2].split("-"))
        start = np.datetime64(datetime(year, month, day, hour, minute), "ms")
        milliseconds = np.round(raw.astype(np.float64) * UNITS[match[1]] * 1000).astype(np.int64)
        times = start + milliseconds.astype("timedelta64[ms]")
    else:
        raise InputError(f"{cube.path}: time: found units {units!r}, expected such as 'hours since 1900-01-01'")
    if times.ndim != 1 or not len(times):
        raise InputError(f"{cube.path}: time: found shape {times.shape}, expected at least one step")
    if len(times) > 1:
        step_of(times, f"{cube.path}: time")
    return np.asarray(times)


def _names(cube: Cube, wanted: str | None) -> list[str]:
    """Variables over time, latitude and longitude in this order."""
    shape = tuple(len(cube.read(_pick(cube, names))) for names in (("time",), LATITUDES, LONGITUDES))
    fitting = [name for name in cube.names if cube.shape(name) == shape]
    if wanted is not None and wanted not in fitting:
        raise InputError(
            f"{cube.path}: there is no variable {wanted!r} over time, latitude, longitude; {closest(wanted, fitting)}"
        )
    if not fitting:
        shapes = ", ".join(f"{name} {cube.shape(name)}" for name in cube.names)
        raise InputError(
            f"{cube.path}: no variable has the shape {shape} of time, latitude and longitude; found {shapes}"
        )
    return [wanted] if wanted else fitting


def _frames(
    stores: Sequence[Path], names: Sequence[str], ours: Sequence[str], ids: tuple[str, ...]
) -> Iterator[pl.DataFrame]:
    steps = max(1, ROWS // len(ids))
    for store in stores:
        with open_cube(store) as cube:
            times = _times(cube)
            for first in range(0, len(times), steps):
                part = slice(first, first + steps)
                values = [cube.values(name, part).reshape(-1, len(ids)) for name in names]
                yield from Grid(np.stack(values, axis=2), ids, tuple(ours), times[part]).frames()
