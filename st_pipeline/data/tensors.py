"""The regular array of one period: values, quality flags and the instants of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import flag_column
from st_pipeline.data.quality import MISSING, OBSERVED, SENTINEL
from st_pipeline.errors import InputError
from st_pipeline.storage import Codec, digest_of, encode_metadata, safetensors_metadata


@dataclass(frozen=True, eq=False)
class SeriesTensor:
    """Values of the input variables at every step and node of a period.

    values (L, N, C) float32, 0 where no number was landed; flags (L, N, C) uint8, see `quality.FLAGS`;
    times (L,) int64, UTC seconds at which the steps begin. The target is channel 0.
    """

    period: str
    sensor_ids: tuple[str, ...]
    variables: tuple[str, ...]
    timezone: str
    values: NDArray[np.float32]
    flags: NDArray[np.uint8]
    times: NDArray[np.int64]

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(L, N, C): the cells a sound model may learn from."""
        return np.asarray(self.flags == OBSERVED)

    @property
    def digest(self) -> str:
        """Digest of the content."""
        state = blake2b(
            digest_of([self.period, self.sensor_ids, self.variables, self.timezone]).encode(), digest_size=16
        )
        for array in (self.values, self.flags, self.times):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    @property
    def landed(self) -> NDArray[np.bool_]:
        """(L, N, C): the cells in which some number was landed that is no sentinel, good or bad."""
        return np.asarray((self.flags != MISSING) & (self.flags != SENTINEL))


def build_tensor(
    readings: pl.DataFrame, sensor_ids: tuple[str, ...], config: StreamConfig, period: str
) -> SeriesTensor:
    """Regular array of the nodes of a period; steps before the first and after the last landed row are left out.

    Raises:
        InputError: nothing was landed in the period.
    """
    grid = readings if not (readings["copy"] > 0).any() else readings.filter(pl.col("copy") == 0)
    heard = grid["sensor_id"].unique(maintain_order=True).cast(pl.String)
    length = len(grid) // max(1, len(heard))
    times = grid["timestamp"].head(length)
    place = {name: row for row, name in enumerate(heard.to_list())}
    known = [(node, place[name]) for node, name in enumerate(sensor_ids) if name in place]
    nodes, rows = (np.array(part, dtype=np.int64) for part in (zip(*known, strict=True) if known else ((), ())))
    shape = (length, len(sensor_ids), len(config.input_names))
    values = np.zeros(shape, dtype=np.float32)
    flags = np.full(shape, MISSING, dtype=np.uint8)
    for channel, name in enumerate(config.input_names):
        with np.errstate(over="ignore"):
            values[:, nodes, channel] = _by_step(grid[name].fill_null(0.0), length)[:, rows]
        flags[:, nodes, channel] = _by_step(grid[flag_column(name)].to_physical(), length)[:, rows]
    values[(flags == MISSING) | (flags == SENTINEL) | ~np.isfinite(values)] = 0.0
    landed = np.flatnonzero((flags != MISSING).any(axis=(1, 2)))
    if not len(landed):
        raise InputError(
            f"stream {config.name!r}: nothing was measured in period {period}; expected readings of at least one sensor"
        )
    span = slice(int(landed[0]), int(landed[-1]) + 1)
    seconds = times.dt.epoch("s").to_numpy()
    return SeriesTensor(
        period,
        sensor_ids,
        config.input_names,
        config.timezone,
        values[span],
        flags[span],
        seconds[span].astype(np.int64),
    )


def _by_step(column: pl.Series, length: int) -> NDArray[Any]:
    """A column of the clean readings, which hold every step of every sensor in order, as (L, sensors)."""
    return column.to_numpy().reshape(-1, length).T


def _dump(tensor: SeriesTensor) -> bytes:
    arrays = {"values": tensor.values, "flags": tensor.flags, "observed": tensor.observed, "times": tensor.times}
    document = {
        "period": tensor.period,
        "sensor_ids": tensor.sensor_ids,
        "variables": tensor.variables,
        "timezone": tensor.timezone,
    }
    return save_safetensors(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, encode_metadata(document)
    )


def _load(payload: bytes) -> SeriesTensor:
    arrays = load_safetensors(payload)
    document = safetensors_metadata(payload)
    return SeriesTensor(
        document["period"],
        tuple(document["sensor_ids"]),
        tuple(document["variables"]),
        document["timezone"],
        arrays["values"],
        arrays["flags"],
        arrays["times"],
    )


TENSOR: Codec[SeriesTensor] = Codec("safetensors", _dump, _load)
