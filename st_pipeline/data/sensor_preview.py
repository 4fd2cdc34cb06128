"""What another sensor table would change, period by period; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import Adjacency, build_adjacency
from st_pipeline.data.lives import node_set
from st_pipeline.data.units import FACTOR, unit_table
from st_pipeline.periods import Period
from st_pipeline.types import NodeSet

Edges = Callable[[str], pl.DataFrame | None]


class Table(NamedTuple):
    """What one sensor table makes of a period."""

    nodes: NodeSet
    graph: Adjacency


def preview(
    config: StreamConfig,
    stored: pl.DataFrame,
    given: pl.DataFrame,
    heard: Mapping[str, frozenset[str]],
    edges: Edges,
) -> list[dict[str, Any]]:
    """One row per period of `heard`: what `given` makes different from `stored`.

    Keys: period; units (sensors whose readings are converted otherwise); joins, leaves, moves (sensors); reordered;
    edges_added, edges_removed, edges_reweighted; data (whether anything of that differs); models (whether models and
    forecasts of the period are made anew: from the first different period on, since a model continues the one before).

    Args:
        heard: period -> sensors with an observed reading of the target.
        edges: period -> the edges that the source gives, None without such.

    Raises:
        InputError: the graph cannot be made of `given`.
    """
    rows: list[dict[str, Any]] = []
    before: tuple[NodeSet | None, NodeSet | None] = (None, None)
    models = False
    for key in sorted(heard):
        period = config.calendar.find(key)
        old, new = (
            _made(config, sensors, previous, heard[key], edges(key), period)
            for sensors, previous in zip((stored, given), before, strict=True)
        )
        units = _other_units(stored, given, period) & heard[key]
        row = {"period": key, "units": sorted(units), **_difference(old, new)}
        row["data"] = any(value for name, value in row.items() if name != "period")
        models |= row["data"]
        rows.append({**row, "models": models})
        before = (old.nodes, new.nodes)
    return rows


def changed_facts(stored: pl.DataFrame, given: pl.DataFrame) -> dict[str, list[str]]:
    """Sensors that the table gains, loses, or says something else of."""
    one, other = (_facts(sensors) for sensors in (stored, given))
    return {
        "added": sorted(other.keys() - one.keys()),
        "removed": sorted(one.keys() - other.keys()),
        "changed": sorted(name for name in one.keys() & other.keys() if one[name] != other[name]),
    }


def _facts(sensors: pl.DataFrame) -> dict[str, set[frozenset[tuple[str, Any]]]]:
    """Sensor -> what its rows say, whatever their order."""
    found: dict[str, set[frozenset[tuple[str, Any]]]] = {}
    for row in sensors.iter_rows(named=True):
        told = frozenset((name, value) for name, value in row.items() if value is not None)
        found.setdefault(row["sensor_id"], set()).add(told)
    return found


def _made(
    config: StreamConfig,
    sensors: pl.DataFrame,
    previous: NodeSet | None,
    heard: frozenset[str],
    edges: pl.DataFrame | None,
    period: Period,
) -> Table:
    nodes = node_set(previous, sensors=sensors, heard=heard, period=period, lives=config.lives)
    return Table(nodes, build_adjacency(nodes.ids, sensors=sensors, edges=edges, config=config, period=period))


def _difference(old: Table, new: Table) -> dict[str, Any]:
    joins, leaves = {*new.nodes.ids} - {*old.nodes.ids}, {*old.nodes.ids} - {*new.nodes.ids}
    kept = [[name for name in made.nodes.ids if name not in joins | leaves] for made in (old, new)]
    one, other = old.graph.by_name(), new.graph.by_name()
    same = one.keys() & other.keys()
    return {
        "joins": sorted(joins),
        "leaves": sorted(leaves),
        "moves": sorted({*new.nodes.moved} ^ {*old.nodes.moved}),
        "reordered": kept[0] != kept[1],
        "edges_added": len(other.keys() - one.keys()),
        "edges_removed": len(one.keys() - other.keys()),
        "edges_reweighted": sum(one[pair] != other[pair] for pair in same),
    }


def _other_units(stored: pl.DataFrame, given: pl.DataFrame, period: Period) -> set[str]:
    """Sensors whose factor differs between the tables on some day of the period."""
    tables = [_factors(sensors) for sensors in (stored, given)]
    first, last = period.start.date(), period.last_day
    days = {first, *(day for table in tables for rows in table.values() for day, _ in rows if first <= day <= last)}
    names = {name for table in tables for name in table}
    return {
        name
        for name in names
        if any(_at(tables[0].get(name, []), day) != _at(tables[1].get(name, []), day) for day in days)
    }


def _factors(sensors: pl.DataFrame) -> dict[str, list[tuple[Any, float]]]:
    found: dict[str, list[tuple[Any, float]]] = {}
    for name, day, factor in unit_table(sensors).select("sensor_id", "valid_from", FACTOR).iter_rows():
        found.setdefault(name, []).append((day, factor))
    return found


def _at(rows: Iterable[tuple[Any, float]], day: Any) -> float:
    """The factor that holds on a day; rows are in order of their dates."""
    return next((factor for since, factor in reversed(list(rows)) if since <= day), 1.0)
