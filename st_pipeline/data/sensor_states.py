"""The life of every sensor in words: planned, active, silent or retired, with what moved it or changed its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl

from st_pipeline.data.units import FACTOR, unit_table
from st_pipeline.types import NodeSet

PLANNED, ACTIVE, SILENT, RETIRED = "planned", "active", "silent", "retired"
MOVED, UNIT_CHANGED = "moved", "unit changed"


@dataclass(frozen=True)
class SensorLife:
    """Intervals of one state as (state, first period, last period), and changes as (kind, period or date)."""

    sensor_id: str
    intervals: tuple[tuple[str, str, str], ...]
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def state(self) -> str:
        """That of the newest period."""
        return self.intervals[-1][0] if self.intervals else PLANNED

    def document(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        intervals = [dict(zip(("state", "from", "to"), interval, strict=True)) for interval in self.intervals]
        changes = [dict(zip(("change", "at"), change, strict=True)) for change in self.changes]
        return {"sensor_id": self.sensor_id, "state": self.state, "intervals": intervals, "changes": changes}


def sensor_lives(sensors: pl.DataFrame, node_sets: Mapping[str, NodeSet]) -> list[SensorLife]:
    """Every sensor of the table and of the node sets, in order of ids.

    A sensor is planned until its first observed reading, active or silent while it is a node, then retired.

    Args:
        node_sets: period -> node set.
    """
    periods = [(key, node_sets[key]) for key in sorted(node_sets)]
    names = {*sensors["sensor_id"].to_list()}.union(*(nodes.births for _, nodes in periods))
    units = _unit_changes(sensors)
    present = [({*nodes.ids}, {*nodes.silent}, {*nodes.moved}, {*nodes.births}) for _, nodes in periods]
    lives = []
    for name in sorted(names):
        states = [
            (SILENT if name in silent else ACTIVE) if name in ids else RETIRED if name in births else PLANNED
            for ids, silent, _, births in present
        ]
        changes = [(MOVED, key) for (key, _), (_, _, moved, _) in zip(periods, present, strict=True) if name in moved]
        lives.append(
            SensorLife(name, _intervals([key for key, _ in periods], states), (*changes, *units.get(name, ())))
        )
    return lives


def _intervals(keys: list[str], states: list[str]) -> tuple[tuple[str, str, str], ...]:
    """Neighbouring periods of one state as one interval."""
    found: list[tuple[str, str, str]] = []
    for key, state in zip(keys, states, strict=True):
        if found and found[-1][0] == state:
            found[-1] = (state, found[-1][1], key)
        else:
            found.append((state, key, key))
    return tuple(found)


def _unit_changes(sensors: pl.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Sensor -> the dates on which its factor becomes another."""
    found: dict[str, list[tuple[str, str]]] = {}
    for (name,), rows in unit_table(sensors).group_by("sensor_id", maintain_order=True):
        known = [(None, 1.0), *rows.select("valid_from", FACTOR).iter_rows()]
        found[str(name)] = [
            (UNIT_CHANGED, after[0].isoformat()) for before, after in pairwise(known) if before[1] != after[1]
        ]
    return found
