"""Small good streams as files, to be spoilt: tables as CSV and Parquet, matrices as .npz."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

NAME = "small"
FIRST = date(2024, 3, 30)
DAYS = [str(FIRST + timedelta(days=day)) for day in range(3)]  # the clock of Berlin skips an hour on the second
PERIODS = ["2024-03-30", "2024-04-02"]


def readings(days: Iterable[str] = DAYS, hours: Iterable[int] = (0, 6, 12, 18), ids: str = "abc") -> str:
    rows = [f"{name},{day} {hour:02d}:00,{hour + 1}" for day in days for hour in hours for name in ids]
    return "\n".join(["id,time,q", *rows, ""])


SENSORS = "id,lat,lon\na,52.5,13.4\nb,52.6,13.4\nc,52.5,13.5\n"
EDGES = "source,target,weight\na,b,1\nb,c,0.5\n"
STREAM = """\
name: small
source:
  format: csv
  readings: readings.csv
  sensors: sensors.csv
  edges: edges.csv
  columns: {sensor_id: id, timestamp: time, flow: q, latitude: lat, longitude: lon}
timezone: Europe/Berlin
step: 6h
periods: {every: 3d, start: 2024-03-30, end: 2024-04-02}
variables: {flow: {minimum: 0, maximum: 100}}
graph: {recipe: edges}
window: 1
horizon: 1
models:
  - {name: eac, backbone: stgnn, prompt_pool: {rank: 2}, strategy: eac}
  - {name: retrain, backbone: stgnn, strategy: retrain}
champion: eac
"""
MATRICES = """\
name: small
source: {format: npz, readings: "x_{period}.npz", adjacency: "a_{period}.npz", columns: {flow: flow}}
step: 6h
periods: {every: 3d, start: 2024-03-30, end: 2024-04-05}
graph: {recipe: edges}
window: 1
horizon: 1
models:
  - {name: retrain, backbone: stgnn, strategy: retrain}
"""


def parquet(content: str | pl.DataFrame) -> bytes:
    frame = pl.read_csv(io.StringIO(content), try_parse_dates=True) if isinstance(content, str) else content
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def npz(array: Any, key: str = "x") -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{key: array})
    return buffer.getvalue()


TABLE = parquet(readings())
RING = np.roll(np.eye(3), 1, axis=1)
FLOW = np.arange(36.0).reshape(12, 3)
CSV: dict[str, Any] = {"readings.csv": readings(), "sensors.csv": SENSORS, "edges.csv": EDGES}
PARQUET: dict[str, Any] = {"readings.parquet": TABLE, "sensors.csv": SENSORS, "edges.csv": EDGES}
NPZ: dict[str, Any] = {f"{kind}_{day}.npz": npz(FLOW if kind == "x" else RING) for kind in "xa" for day in PERIODS}
AS_PARQUET = {"format: csv": "format: parquet", "readings.csv": "readings.parquet"}
