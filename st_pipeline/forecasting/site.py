"""A place where a sensor is or might be: its row in the sensor table, its edges, its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from st_pipeline.data.positions import Positions, positions_at
from st_pipeline.errors import InputError, closest

NEW = "new"
DEGREES = {"latitude": 90.0, "longitude": 180.0}


@dataclass(frozen=True, eq=False)
class Site:
    """A sensor's id with the tables of the stream that have it.

    Attributes:
        edges: None where the source gives none.
        note: how its edges came about, where they are not the source's; empty otherwise.
    """

    name: str
    sensors: pl.DataFrame
    edges: pl.DataFrame | None
    note: str = ""


def known_site(stream: str, name: str, sensors: pl.DataFrame, edges: pl.DataFrame | None) -> Site:
    """The place of a sensor of the stream.

    Raises:
        InputError: there is no such sensor.
    """
    known = sensors["sensor_id"].unique().sort().to_list()
    if name not in known:
        raise InputError(f"stream {stream!r} has no sensor {name!r}; {closest(name, known)}")
    return Site(name, sensors, edges)


def new_site(
    stream: str, place: dict[str, float], sensors: pl.DataFrame, edges: pl.DataFrame | None, day: date
) -> Site:
    """The place at coordinates, under an id that no sensor has.

    Where the source gives distances, as along roads, those of the place are straight ones times the usual ratio of
    given to straight distances, to as many of the nearest sensors as a sensor usually has edges, none further than
    the longest edge given.

    Args:
        place: `latitude` and `longitude` in degrees, or `x` and `y` in metres.
        day: on which the sensors are where they are.

    Raises:
        InputError: the coordinates are not of the kind that the stream's sensors have, or no such numbers.
    """
    _check(stream, place, sensors)
    taken = set(sensors["sensor_id"])
    name = next(name for name in (NEW + "'" * count for count in range(len(taken) + 1)) if name not in taken)
    row = pl.DataFrame([{"sensor_id": name, **place}], schema_overrides={"sensor_id": pl.String})
    row = row.cast({key: sensors.schema[key] for key in row.columns})
    table = pl.concat([sensors, row], how="diagonal")
    if edges is None:
        return Site(name, table, None)
    added, note = _edges_of(name, table, edges, day)
    return Site(name, table, pl.concat([edges, added], how="diagonal"), note)


def neighbours(
    name: str, ids: Sequence[str], weights: Sequence[float], sensors: pl.DataFrame, day: date
) -> list[dict[str, Any]]:
    """Sensors with an edge to the place, heaviest first: sensor_id, weight, share of all weights, metres or None."""
    total = sum(weights)
    metres = _metres(positions_at(sensors, [name, *ids], day))
    rows = [
        {"sensor_id": one, "weight": float(weight), "share": float(weight / total), "metres": away}
        for one, weight, away in zip(ids, weights, metres, strict=True)
        if weight > 0
    ]
    return sorted(rows, key=lambda row: (-row["weight"], row["sensor_id"]))


def nearest(name: str, ids: Sequence[str], sensors: pl.DataFrame, day: date) -> tuple[str, float] | None:
    """The nearest of some sensors and how many metres away it is; None where no position is known."""
    metres = _metres(positions_at(sensors, [name, *ids], day))
    known = [(away, one) for one, away in zip(ids, metres, strict=True) if away is not None]
    return (min(known)[1], min(known)[0]) if known else None


def _metres(positions: Positions) -> list[float | None]:
    """From the first position to each other one."""
    points = positions.cartesian()
    away = positions.along_surface(np.linalg.norm(points[1:] - points[:1], axis=1))
    return [None if math.isnan(one) else float(one) for one in away]


def _check(stream: str, place: dict[str, float], sensors: pl.DataFrame) -> None:
    has = {axis for axis in ("latitude", "longitude", "x", "y") if sensors[axis].is_not_null().any()}
    axes = ("latitude", "longitude") if has >= {"latitude", "longitude"} else ("x", "y") if has >= {"x", "y"} else ()
    if not axes:
        raise InputError(f"stream {stream!r}: no sensor has a position, so a place has no neighbours; use --sensor")
    unit = "degrees" if axes[0] == "latitude" else "metres"
    if set(place) != set(axes):
        raise InputError(
            f"stream {stream!r}: its sensors have {axes[0]} and {axes[1]} in {unit}, found "
            f"{' and '.join(place)}; give --{axes[0]} and --{axes[1]}"
        )
    for axis, value in place.items():
        most = DEGREES.get(axis, math.inf)
        if not math.isfinite(value) or abs(value) > most:
            expected = f"expected degrees from {-most:g} to {most:g}" if axis in DEGREES else "expected metres"
            raise InputError(f"--{axis} {value:g}: {expected}; are the two swapped, or in another unit?")


def _edges_of(name: str, sensors: pl.DataFrame, edges: pl.DataFrame, day: date) -> tuple[pl.DataFrame, str]:
    """Edges of a place in both directions, and how they were made."""
    nothing = edges.clear(), "the graph is given as edges, and none can be made of coordinates"
    given = edges.filter(pl.col("distance").is_not_null())
    if given.is_empty():
        return nothing
    ids = pl.concat([given["source"], given["target"]]).unique().sort().to_list()
    positions = positions_at(sensors, [name, *ids], day)
    place = {one: row + 1 for row, one in enumerate(ids)}
    ends = [np.array([place[one] for one in given[end]]) for end in ("source", "target")]
    points = positions.cartesian()
    straight = positions.along_surface(np.linalg.norm(points[ends[0]] - points[ends[1]], axis=1))
    given_distance = given["distance"].to_numpy()
    ratios = given_distance[straight > 0] / straight[straight > 0]
    if not len(ratios) or not np.isfinite(ratios).any():
        return nothing
    ratio, usual = float(np.nanmedian(ratios)), max(1, round(2 * len(given) / len(ids)))
    away = [(one * ratio, other) for one, other in zip(_metres(positions), ids, strict=True) if one is not None]
    chosen = [pair for pair in sorted(away)[:usual] if pair[0] <= given_distance.max()]
    rows = [
        {"source": one, "target": other, "distance": distance}
        for distance, near in chosen
        for one, other in ((name, near), (near, name))
    ]
    note = (
        f"its edges are made of straight distances times {ratio:.3g}, the usual ratio of those given, to at most "
        f"{usual} sensors, as many as a sensor usually has edges"
    )
    schema = {key: edges.schema[key] for key in ("source", "target", "distance")}
    return pl.DataFrame(rows, schema=schema), note
