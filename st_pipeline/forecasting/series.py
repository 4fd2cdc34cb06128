"""The readings of a period and of what lies before it, on one grid of steps, for all sensors at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.clock import step_count, step_times
from st_pipeline.data.protocols import PeriodArrays, Protocol
from st_pipeline.data.quality import MISSING
from st_pipeline.data.splits import split
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.naive import DAYS_PER_WEEK
from st_pipeline.types import NodeSet, Period

KEPT_DAYS = 28  # at least so far back are readings joined, so that a last value is known


@dataclass(frozen=True, eq=False)
class Series:
    """Joined readings.

    Attributes:
        tensor: (L, N, C), missing where there is nothing; it goes `horizon` steps beyond the period.
        begin: the period's first step.
        landed: the newest step of the period in which anything was landed; `begin - 1` without any.
    """

    config: StreamConfig
    period: Period
    tensor: SeriesTensor
    begin: int
    landed: int

    @property
    def ids(self) -> tuple[str, ...]:
        return self.tensor.sensor_ids

    @property
    def ends(self) -> NDArray[np.int64]:
        """(L,) UTC seconds at which the steps are over."""
        return self.tensor.times + int(self.config.step.total_seconds())

    def slots(self) -> NDArray[np.int64]:
        """(S,) last steps that the due forecasts of the period read: those issued after its start, up to its end."""
        every = self.config.issue_steps
        last = min(self.landed, self.begin + step_count(self.period, self.config.step) - 1)
        return np.arange(self.begin + every - 1, last + 1, every)

    def future(self, issued: NDArray[np.int64]) -> Tensor:
        """(S, H): the steps forecast from the last steps that are read."""
        return torch.from_numpy(issued)[:, None] + torch.arange(1, self.config.horizon + 1)

    def rows(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Columns of the named sensors; -1 for one that is not here."""
        place = {name: row for row, name in enumerate(self.ids)}
        return np.array([place.get(name, -1) for name in names], dtype=np.int64)

    def arrays(
        self, ids: tuple[str, ...], protocol: Protocol, lags: tuple[int, ...] = (), steps: slice = slice(None)
    ) -> PeriodArrays:
        """What a protocol sees in some steps of these sensors (those that are not here have no readings)."""
        cut = {name: getattr(self.tensor, name)[steps] for name in ("values", "flags", "times")}
        tensor = of_sensors(replace(self.tensor, **cut), ids)
        return PeriodArrays.of(tensor, NodeSet.of(ids), self.config, protocol=protocol, lags=lags)

    def slot_of_week(self, arrays: PeriodArrays) -> NDArray[np.int64]:
        """(L,) slot of the local week of each step."""
        return (arrays.day_of_week * self.config.steps_per_day + arrays.time_of_day).numpy()


def join(
    config: StreamConfig,
    tensors: Mapping[str, SeriesTensor],
    period: Period,
    *,
    since: int | None = None,
    lags: tuple[int, ...] = (),
    sensors: Iterable[str] = (),
) -> Series:
    """The readings of a period with what its forecasts look back to.

    Args:
        tensors: by period key, of this and earlier periods; one that is not there is a gap.
        since: UTC seconds of the first step that anything is forecast from, if that lies before the period.
        lags: seasonal lags of a model, in steps.
        sensors: ids that get a column even if they have no readings.
    """
    day = 24 * 3600
    back = max(2 * DAYS_PER_WEEK * day, KEPT_DAYS * day, *(lag * int(config.step.total_seconds()) for lag in lags))
    back += (config.window + config.horizon) * int(config.step.total_seconds())
    start = int(period.start.timestamp())
    first = min(start, start if since is None else since) - back
    chosen = [config.calendar.period(index) for index in range(period.index + 1)]
    chosen = [one for one in chosen if one.end.timestamp() > first]
    known = {one.key: tensors[one.key] for one in chosen if one.key in tensors}
    ids = sorted({*sensors, *(name for tensor in known.values() for name in tensor.sensor_ids)})
    times = np.concatenate([*(grid(one, config) for one in chosen), _beyond(chosen[-1], config)])
    skipped = int(np.searchsorted(times, first))
    tensor = _filled(config, period.key, tuple(ids), times[skipped:], known.values())
    begin = int(np.searchsorted(tensor.times, start))
    here = known.get(period.key)
    landed = begin - 1 if here is None else int(np.searchsorted(tensor.times, here.times[-1]))
    return Series(config, period, tensor, begin, landed)


def grid(period: Period, config: StreamConfig) -> NDArray[np.int64]:
    """UTC seconds at which the steps of a period begin."""
    return step_times(period, config.step, step_count(period, config.step)).dt.epoch("s").to_numpy().astype(np.int64)


def span_of_test(tensor: SeriesTensor, config: StreamConfig) -> tuple[int, int]:
    """UTC seconds of the first and last step of a period's test part."""
    return int(tensor.times[split(len(tensor.times), config.split).test.start]), int(tensor.times[-1])


def of_sensors(tensor: SeriesTensor, ids: tuple[str, ...]) -> SeriesTensor:
    """The columns of these sensors, in their order; missing cells for one that the tensor has not."""
    return filled_like(tensor, ids, tensor.times, [tensor])


def _beyond(period: Period, config: StreamConfig) -> NDArray[np.int64]:
    """The steps after a period that its last forecasts are of."""
    last = grid(period, config)[-1]
    return np.asarray(last + int(config.step.total_seconds()) * np.arange(1, config.horizon + 1))


def _filled(
    config: StreamConfig, key: str, ids: tuple[str, ...], times: NDArray[np.int64], parts: Iterable[SeriesTensor]
) -> SeriesTensor:
    empty = np.zeros((0, 0, len(config.input_names)), dtype=np.float32)
    like = SeriesTensor(key, (), config.input_names, config.timezone, empty, empty.astype(np.uint8), times[:0])
    return filled_like(like, ids, times, parts)


def filled_like(
    like: SeriesTensor, ids: tuple[str, ...], times: NDArray[np.int64], parts: Iterable[SeriesTensor]
) -> SeriesTensor:
    """Cells of several tensors put at these steps (L,) and sensors; steps outside are left out."""
    shape = (len(times), len(ids), len(like.variables))
    values, flags = np.zeros(shape, dtype=np.float32), np.full(shape, MISSING, dtype=np.uint8)
    place = {name: row for row, name in enumerate(ids)}
    for part in parts:
        own = [(place[name], row) for row, name in enumerate(part.sensor_ids) if name in place]
        if not own or not len(times):
            continue
        columns, rows = np.array(own, dtype=np.int64).T
        at = np.searchsorted(times, part.times)
        there = (at < len(times)) & (times[np.minimum(at, len(times) - 1)] == part.times)
        values[np.ix_(at[there], columns)] = part.values[np.ix_(there, rows)]
        flags[np.ix_(at[there], columns)] = part.flags[np.ix_(there, rows)]
    return SeriesTensor(like.period, ids, like.variables, like.timezone, values, flags, times)


def instants(seconds: NDArray[np.int64]) -> list[datetime]:
    """UTC seconds as datetimes with a zone."""
    return [datetime.fromtimestamp(second, UTC) for second in seconds.tolist()]
