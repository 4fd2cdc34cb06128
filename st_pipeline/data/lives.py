"""Sensor lives: who is a node of a period, and who is new, silent, back, moved or gone."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from st_pipeline.data.positions import positions_at
from st_pipeline.data_config import LivesConfig
from st_pipeline.periods import Period
from st_pipeline.storage import JSON, Codec
from st_pipeline.types import NodeSet


def node_set(
    previous: NodeSet | None, *, sensors: pl.DataFrame, heard: frozenset[str], period: Period, lives: LivesConfig
) -> NodeSet:
    """The node set of a period.

    A sensor becomes a node in the period of its first observed reading and stays one until it is retired: by the
    date in the sensor table, or after `lives.retire_after` whole periods of silence. One that is heard again after
    that returns as the last node. Retained nodes keep their order.

    Args:
        heard: sensors with an observed reading of the target in the period.
        sensors: static facts, `SENSOR_SCHEMA`.
    """
    before = previous if previous is not None else NodeSet(period.key, ())
    gone = _retired_by_date(sensors, period)
    silence = {name: before.silence.get(name, 0) + 1 for name in before.births if name not in heard}
    expired = {name for name, periods in silence.items() if lives.retire_after and periods >= lives.retire_after}
    kept = [name for name in before.ids if name not in gone and (name in heard or name not in expired)]
    joining = sorted(name for name in heard if name not in gone and name not in set(before.ids))
    added = tuple(name for name in joining if name not in before.births)
    returned = tuple(name for name in joining if name in before.births)
    births = {**before.births, **dict.fromkeys(added, period.key)}
    ids = (*kept, *added, *returned)
    return NodeSet(
        period=period.key,
        ids=ids,
        added=added,
        returned=returned,
        silent=tuple(name for name in ids if name in silence),
        moved=_moved(sensors, kept, period),
        retired=tuple(name for name in before.ids if name not in set(kept)),
        births=dict(sorted(births.items())),
        silence=dict(sorted(silence.items())),
    )


def heard_in(readings: pl.DataFrame, target: str) -> frozenset[str]:
    """Sensors with at least one observed reading of the target."""
    observed = readings.filter(pl.col(f"{target}_flag") == "observed")
    return frozenset(observed["sensor_id"].unique().to_list())


def _retired_by_date(sensors: pl.DataFrame, period: Period) -> set[str]:
    """Sensors whose declared retirement, in the row valid by the period's end, is at or before its first day."""
    begun = pl.col("valid_from").is_null() | (pl.col("valid_from") < period.end.date())
    rows = sensors.filter(begun).sort("valid_from", nulls_last=False, maintain_order=True)
    last = rows.group_by("sensor_id").agg(pl.col("retired").last())
    return set(last.filter(pl.col("retired") <= period.start.date())["sensor_id"].to_list())


def _moved(sensors: pl.DataFrame, ids: list[str], period: Period) -> tuple[str, ...]:
    """Sensors whose position at the end of the period is not that at its start."""
    day = timedelta(days=1)
    start, end = (
        positions_at(sensors, ids, moment - day if moment > date.min else moment).plane
        for moment in (period.start.date(), period.end.date())
    )
    same = (start == end) | (np.isnan(start) & np.isnan(end))
    return tuple(name for row, name in enumerate(ids) if not same[row].all())


def _dump(nodes: NodeSet) -> bytes:
    return JSON.dump(nodes.to_json())


def _load(payload: bytes) -> NodeSet:
    return NodeSet.from_json(JSON.load(payload))


NODE_SET: Codec[NodeSet] = Codec("json", _dump, _load)
