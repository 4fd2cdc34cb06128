"""LibCity's atomic files: places, relations, states over time, and their configuration.

Layout (LibCity documentation, "Atomic files"; LibCity/Bigscity-LibCity-Datasets): `.geo` has `geo_id`, `type`,
`coordinates` as [longitude, latitude]; `.rel` has `origin_id`, `destination_id` and a weight or cost; `.dyna` has
`time`, `entity_id` and the values; `config.json` says under `info` which columns are values (`data_col`), which is
the weight (`weight_col`), whether it is a distance (`set_weight_link_or_dist`) and the step in seconds
(`time_intervals`).
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from st_pipeline.data_config import RESERVED
from st_pipeline.errors import InputError
from st_pipeline.fields import check_variable
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.files import beside, one_file, read_json
from st_pipeline.interchange.parts.graphs import ALONE, KERNEL, POSITIONED, WEIGHTED, known_edges
from st_pipeline.interchange.parts.long_draft import Facts, long_draft
from st_pipeline.interchange.parts.long_frames import in_parts, rising_times, span_of
from st_pipeline.interchange.parts.tables import need, numbers, sensor_table, stamps, texts
from st_pipeline.registry import IMPORTERS

FIXED = ("dyna_id", "type", "time", "entity_id")


@IMPORTERS.register
def libcity(path: Path) -> Draft:
    """All value columns, the configured ones first; sensors are places, edges relations."""
    folder = path if path.is_dir() else path.parent
    config = beside(folder, "config.json")
    info = read_json(config).get("info", {}) if config else {}
    if config and not isinstance(info, dict):
        raise InputError(f"{config}: info: found a {type(info).__name__}, expected a section")
    dyna, geo = (_file(folder, info, key, suffix) for key, suffix in (("data_files", "dyna"), ("geo_file", "geo")))
    if dyna is None:
        raise InputError(f"{folder}: there is no .dyna file; grids and trips (.grid, .od) are not read")
    readings, names = _readings(dyna, config, info)
    places = _places(geo) if geo else None
    listed = readings["sensor_id"].unique(maintain_order=True).cast(pl.String).to_list()
    sensors = sensor_table(listed, places) if places is not None else None
    placed = sensors is not None and "latitude" in sensors.columns
    rel = _file(folder, info, "rel_file", "rel")
    edges, graph = _edges(rel, info, listed) if rel else (None, POSITIONED if placed else ALONE)
    first, last, step = span_of(readings, str(dyna))
    told = info.get("time_intervals")
    step = timedelta(seconds=told) if type(told) is int and 0 < told <= 86400 else step
    facts = Facts(f"{dyna.stem}: {len(listed)} places of LibCity", {name: {} for name in names}, first, last, step)
    return long_draft(facts, in_parts(readings), sensors=sensors, edges=edges, graph=graph)


def _file(folder: Path, info: dict[str, Any], key: str, suffix: str) -> Path | None:
    """The file that the configuration names, or else the only one with this ending."""
    named = info.get(key)
    named = named[0] if isinstance(named, list) and len(named) == 1 else named
    if isinstance(named, list) and named:
        raise InputError(f"{folder}: config.json: {key} names {len(named)} files; import each as a stream of its own")
    if isinstance(named, str) and named:
        if "/" in named or "\\" in named or named in (".", ".."):
            raise InputError(
                f"{folder}: config.json: {key}: {named!r} leaves the folder; expected the name of a file in it"
            )
        return beside(folder, f"{named}.{suffix}".lower())
    return one_file(folder, f"*.{suffix}", what=f".{suffix} file") if beside(folder, f"*.{suffix}") else None


def _readings(file: Path, config: Path | None, info: dict[str, Any]) -> tuple[pl.DataFrame, list[str]]:
    """sensor_id, timestamp and the values, and their names."""
    frame = texts(file)
    need(frame, FIXED[2:], file)
    columns = [name for name in frame.columns if name not in FIXED]
    first = info.get("data_col") or []
    wanted = [first] if isinstance(first, str) else list(first)
    if absent := [name for name in wanted if name not in columns]:
        raise InputError(f"{config}: data_col: there is no column {absent[0]!r} in {file.name}; found {columns}")
    names = [*wanted, *(name for name in columns if name not in wanted)]
    if not names:
        raise InputError(f"{file}: no column beside {', '.join(FIXED)}; expected at least one of values")
    for name in names:
        try:
            bad = check_variable(name) in RESERVED
        except ValueError as error:
            raise InputError(f"{file}: {error}") from None
        if bad:
            raise InputError(f"{file}: {name!r} names a fact of a sensor; rename the column")
    values = numbers(frame, names, file)
    ids = frame.select(pl.col("entity_id").str.strip_chars().alias("sensor_id"))
    readings = ids.with_columns(stamps(frame, "time", file)).hstack(values)
    return rising_times(readings, file), names


def _places(file: Path) -> pl.DataFrame:
    """Ids, and latitude and longitude of points."""
    frame = texts(file)
    need(frame, ("geo_id",), file)
    ids = frame["geo_id"].str.strip_chars().to_list()
    rows: list[dict[str, Any]] = [{"sensor_id": name} for name in ids]
    if "coordinates" in frame.columns:
        for row, written in zip(rows, frame["coordinates"], strict=True):
            point = _point(written)
            if point:
                row |= {"longitude": point[0], "latitude": point[1]}
    schema = {"sensor_id": pl.String, "latitude": pl.Float64, "longitude": pl.Float64}
    found = pl.DataFrame(rows, schema=schema)
    return found if found["latitude"].is_not_null().any() else found.select("sensor_id")


def _point(written: str | None) -> tuple[float, float] | None:
    """[longitude, latitude]; None for anything that is no point on the globe."""
    try:
        found = json.loads(written or "")
        longitude, latitude = (float(part) for part in found)
    except (ValueError, TypeError):
        return None
    return (longitude, latitude) if abs(latitude) <= 90 and abs(longitude) <= 360 else None


def _edges(file: Path, info: dict[str, Any], ids: list[str]) -> tuple[pl.DataFrame, str]:
    """Edges with a weight or a distance, and the recipe for it."""
    frame = texts(file, least=0)
    need(frame, ("origin_id", "destination_id"), file)
    rest = [name for name in frame.columns if name not in ("rel_id", "type", "origin_id", "destination_id")]
    column = info.get("weight_col") or (rest[0] if rest else None)
    distance = info.get("set_weight_link_or_dist", "dist" if column == "cost" else "link") == "dist"
    value = numbers(frame, [column], file, least=0)[column] if column else pl.Series([1.0] * len(frame))
    kind, other = ("distance", "weight") if distance and column else ("weight", "distance")
    edges = frame.select(
        pl.col("origin_id").str.strip_chars().alias("source"),
        pl.col("destination_id").str.strip_chars().alias("target"),
    ).with_columns(value.cast(pl.Float64).alias(kind), pl.lit(None, dtype=pl.Float64).alias(other))
    edges = known_edges(edges, ids, file)
    return (
        edges if kind == "distance" else edges.filter(pl.col("weight") > 0)
    ), KERNEL if kind == "distance" else WEIGHTED
