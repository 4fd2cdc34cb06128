"""A stream as exporters see it: per period the sensors, their values and their graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import build_adjacency
from st_pipeline.data.cleaning import clean
from st_pipeline.data.clock import step_count
from st_pipeline.data.lives import heard_in, node_set
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.tensors import SeriesTensor, build_tensor
from st_pipeline.interchange.parts.arrays import Array
from st_pipeline.periods import Period
from st_pipeline.readers.base import Reader
from st_pipeline.types import NodeSet


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One period: values (L, N, C) from its first step to its last, NaN where no good value is; weights (N, N)."""

    period: Period
    ids: tuple[str, ...]
    values: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Network:
    """Periods of a stream, the target being channel 0.

    `sensors` has the facts of the sensors; `ids` are all of them in the order of their first period; `missing` stands
    in the arrays for cells without a good value.
    """

    config: StreamConfig
    snapshots: tuple[Snapshot, ...]
    sensors: pl.DataFrame
    missing: float = np.nan

    @property
    def variables(self) -> tuple[str, ...]:
        return self.config.variable_names

    @property
    def step(self) -> timedelta:
        return self.config.step

    @property
    def start(self) -> datetime:
        """The first step, UTC without saying so."""
        return self.snapshots[0].period.start.astimezone(UTC).replace(tzinfo=None)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for snapshot in self.snapshots for name in snapshot.ids))

    def seen_until(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Sensors of a period and of all before it, in the order of their first period."""
        until = self.snapshots.index(snapshot) + 1
        return tuple(dict.fromkeys(name for earlier in self.snapshots[:until] for name in earlier.ids))

    def placed(self, snapshot: Snapshot, ids: Sequence[str]) -> tuple[Array, Array]:
        """Values (L, M, C) and weights (M, M) of a period with a column for each id, known or not."""
        place = {name: column for column, name in enumerate(ids)}
        columns = np.array([place[name] for name in snapshot.ids], dtype=np.int64)
        length, _, count = snapshot.values.shape
        values = np.full((length, len(ids), count), self.missing, dtype=np.float32)
        values[:, columns] = np.where(np.isnan(snapshot.values), np.float32(self.missing), snapshot.values)
        weights = np.zeros((len(ids), len(ids)), dtype=np.float32)
        weights[np.ix_(columns, columns)] = snapshot.weights
        return values, weights

    @cached_property
    def values(self) -> Array:
        """(T, M, C) of all periods one after the other."""
        return np.concatenate([self.placed(snapshot, self.ids)[0] for snapshot in self.snapshots])

    @cached_property
    def weights(self) -> Array:
        """(M, M): of each pair the weight in the last period that has both sensors."""
        weights = np.zeros((len(self.ids), len(self.ids)), dtype=np.float32)
        for snapshot in self.snapshots:
            place = {name: column for column, name in enumerate(self.ids)}
            columns = np.array([place[name] for name in snapshot.ids], dtype=np.int64)
            weights[np.ix_(columns, columns)] = snapshot.weights
        return weights

    @property
    def costs(self) -> tuple[Array, Array, Array]:
        """Rows, columns and costs of the edges: DCRNN's kernel exp(-cost^2) is the weight, the largest being 1."""
        row, column = np.nonzero(self.weights)
        weight = self.weights[row, column] / max(float(self.weights.max(initial=0)), 1e-30)
        return row, column, np.sqrt(-np.log(weight.astype(np.float64)))

    @property
    def positions(self) -> pl.DataFrame:
        """sensor_id, latitude, longitude, x and y of `ids`, the first row of each; null where not known."""
        facts = self.sensors.unique("sensor_id", keep="first", maintain_order=True)
        listed = pl.DataFrame({"sensor_id": list(self.ids)}, schema={"sensor_id": pl.String})
        return listed.join(facts, on="sensor_id", how="left", maintain_order="left")

    @cached_property
    def times(self) -> Array:
        """(T,) datetime64[ms] of the steps, UTC."""
        size = self.step // timedelta(milliseconds=1)
        return np.asarray(np.datetime64(self.start, "ms") + np.arange(len(self.values)) * np.timedelta64(size, "ms"))


def read_network(config: StreamConfig, reader: Reader, periods: Sequence[Period]) -> Network:
    """The chosen periods of a stream, cleaned and joined as the assets do it.

    Raises:
        InputError: the raw data cannot be read, or hold nothing.
    """
    wide = config.model_copy(update={"inputs": config.variable_names[1:]})
    found = []
    for data in read_periods(wide, reader, periods[-1]):
        if data.period.index >= periods[0].index:
            values = _whole(data.tensor, data.period, config)
            found.append(Snapshot(data.period, data.nodes.ids, values, data.graph.dense().numpy()))
    return Network(config, tuple(found), reader.sensors())


def read_periods(config: StreamConfig, reader: Reader, last: Period) -> Iterator[PeriodData]:
    """All periods up to one, made from the raw data as the assets make them."""
    sensors = reader.sensors()
    nodes: NodeSet | None = None
    for period in config.calendar.periods()[: last.index + 1]:
        frame = clean(reader.readings(period), config, period)
        heard = heard_in(frame, config.variable_names[0])
        nodes = node_set(nodes, sensors=sensors, heard=heard, period=period, lives=config.lives)
        edges = reader.edges(period) if reader.has_edges else None
        adjacency = build_adjacency(nodes.ids, sensors=sensors, edges=edges, config=config, period=period)
        yield PeriodData(period, nodes, build_tensor(frame, nodes.ids, config, period.key), adjacency.graph())


def _whole(tensor: SeriesTensor, period: Period, config: StreamConfig) -> Array:
    """(L, N, C) of every step of a period."""
    values = np.full((step_count(period, config.step), *tensor.values.shape[1:]), np.nan, dtype=np.float32)
    first = int(tensor.times[0] - period.start.timestamp()) // int(config.step.total_seconds())
    values[first : first + len(tensor.values)] = np.where(tensor.observed, tensor.values, np.nan)
    return values
