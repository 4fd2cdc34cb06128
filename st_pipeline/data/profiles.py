"""The usual week of each sensor, and how it differs from that of the period before."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.data.clock import DAY, HOUR, calendar_features
from st_pipeline.data.tensors import SeriesTensor

MIN_SLOTS = 24  # hours of the week (or slots of longer steps) that both periods must have


def profile_shift(current: SeriesTensor, previous: SeriesTensor | None, step: timedelta) -> pl.DataFrame:
    """One row per sensor, `sensor_id` and `shift`: root mean square change of its mean profile by hour of the week.

    In units of the sensor's deviation in the previous period; null where one of the periods has too few hours of the
    week, or the sensor was constant. Steps longer than an hour are slots of their own.
    """
    now = _profiles(current, step)
    before = {} if previous is None else _profiles(previous, step)
    spread = {} if previous is None else _deviations(previous)
    rows = []
    for name, profile in now.items():
        change = profile - before.get(name, np.full_like(profile, np.nan))
        known = np.isfinite(change)
        scale = spread.get(name, 0.0)
        comparable = known.sum() >= min(MIN_SLOTS, len(profile)) and scale > 0
        size = float(np.sqrt((change[known] ** 2).mean()) / scale) if comparable else None
        rows.append({"sensor_id": name, "shift": size})
    return pl.DataFrame(rows, schema={"sensor_id": pl.String, "shift": pl.Float64})


def _profiles(tensor: SeriesTensor, step: timedelta) -> dict[str, NDArray[np.float64]]:
    """Sensor -> mean of the target by slot of the local week, NaN where nothing was observed."""
    slot, day = calendar_features(tensor.times, tensor.timezone, step)
    together = max(HOUR // step, 1)
    daily = -(-(DAY // step) // together)
    place = day * daily + slot // together
    seen = tensor.observed[..., 0]
    shape = (7 * daily, seen.shape[1])
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, place, np.where(seen, tensor.values[..., 0].astype(np.float64), 0.0))
    np.add.at(count, place, seen)
    means = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
    return {name: means[:, node] for node, name in enumerate(tensor.sensor_ids)}


def _deviations(tensor: SeriesTensor) -> dict[str, float]:
    seen = tensor.observed[..., 0]
    values = tensor.values[..., 0].astype(np.float64)
    return {
        name: float(values[seen[:, node], node].std()) if seen[:, node].any() else 0.0
        for node, name in enumerate(tensor.sensor_ids)
    }
