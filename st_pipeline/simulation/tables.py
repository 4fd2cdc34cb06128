"""The simulated sensors and the roads between them as tables."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import polars as pl

from st_pipeline.simulation.detectors import Detector
from st_pipeline.simulation.network import City


def sensors_table(city: City, detectors: Sequence[Detector]) -> pl.DataFrame:
    """One row per sensor and place: sensor_id, x_m, y_m, road, direction, kind, installed, retired, valid_from."""
    rows = []
    for detector in detectors:
        for cell, valid_from in zip(detector.cells, (detector.installed, detector.moved_on), strict=False):
            place = city.cells.row(cell, named=True)
            life = {"installed": detector.installed, "retired": detector.retired, "valid_from": valid_from}
            rows.append({"sensor_id": detector.sensor_id, **place, **life})
    columns = ["sensor_id", "x_m", "y_m", "road", "direction", "kind", "installed", "retired", "valid_from"]
    return pl.DataFrame(rows, schema_overrides={"retired": pl.Date}).select(columns)


def edges_table(city: City, detectors: Sequence[Detector]) -> pl.DataFrame:
    """From each sensor to the first sensors downstream on every branch: source, target, distance_m along the road.

    All sensors that ever exist count; a moved sensor counts where it lies last.
    """
    sites = {detector.cells[-1]: detector.sensor_id for detector in detectors}
    after = downstream_cells(city)
    length = city.cells["length_m"].to_list()
    rows = []
    for cell, source in sorted(sites.items(), key=lambda site: site[1]):
        reached = first_reached(cell, after=after, length=length, sites=sites)
        rows += [(source, target, round(distance, 1)) for target, distance in sorted(reached.items())]
    schema = {"source": pl.String, "target": pl.String, "distance_m": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def downstream_cells(city: City) -> list[list[int]]:
    """The cells that vehicles can reach next from each cell."""
    roads = city.roads
    pairs = [*roads.links.tolist(), *roads.merges[:, [0, 2]].tolist(), *roads.merges[:, [1, 2]].tolist()]
    pairs += [*roads.diverges[:, [0, 1]].tolist(), *roads.diverges[:, [0, 2]].tolist()]
    after: list[list[int]] = [[] for _ in roads.length]
    for source, target in pairs:
        after[source].append(target)
    return after


def first_reached(
    start: int, *, after: Sequence[Sequence[int]], length: Sequence[float], sites: dict[int, str]
) -> dict[str, float]:
    """The sensors met first on every way from the middle of a cell, with the shortest distance to their middle."""
    reached: dict[str, float] = {}
    done = {start}
    ahead = [(length[start] / 2, cell) for cell in after[start]]
    while ahead:
        distance, cell = heappop(ahead)
        if cell in done:
            continue
        done.add(cell)
        if cell in sites:
            reached[sites[cell]] = distance + length[cell] / 2
            continue
        for following in after[cell]:
            heappush(ahead, (distance + length[cell], following))
    return reached
