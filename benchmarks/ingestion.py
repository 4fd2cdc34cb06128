"""From Parquet to cleaned tensors: 50 million readings in seven periods."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.data import STEPS_PER_DAY
from benchmarks.figures import Figure, Result, memory_mib, table, told
from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import clean
from st_pipeline.data.tensors import SeriesTensor, build_tensor
from st_pipeline.periods import Period
from st_pipeline.readers import readers
from st_pipeline.readers.base import Reader, SourceContext

SENSORS, DAYS, PERIODS = 800, 31, 7
START = datetime(2024, 1, 1)
STREAM = {
    "name": "large",
    "source": {
        "format": "parquet",
        "readings": "readings/*.parquet",
        "sensors": "sensors.csv",
        "columns": {"flow": "flow", "x": "x_m", "y": "y_m"},
    },
    "timezone": "UTC",
    "step": "5min",
    "periods": {"every": f"{DAYS}d", "start": START.date(), "end": (START + timedelta(days=DAYS * PERIODS)).date()},
    "target": "flow",
    "variables": {
        "flow": {"minimum": 0, "maximum": 8000, "stuck": "2h", "stuck_at_zero": "12h", "sentinels": [-1]},
    },
    "graph": {"recipe": "knn", "k": 5},
    "window": 12,
    "horizon": 12,
    "models": [{"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 6}, "strategy": "eac"}],
}


def write(folder: Path) -> int:
    """Long tables of one file a month, 1 % of the values missing; returns the number of rows."""
    random = np.random.default_rng(0)
    names = pl.Series([f"sensor-{row:05d}" for row in range(SENSORS)])
    steps, rows = DAYS * STEPS_PER_DAY, 0
    (folder / "readings").mkdir()
    for number in range(PERIODS):
        start = START + timedelta(days=DAYS * number)
        times = pl.datetime_range(start, start + timedelta(minutes=5 * (steps - 1)), "5m", time_unit="ms", eager=True)
        values = random.gamma(3, 60, (steps, SENSORS)).astype(np.float32)
        values[random.random(values.shape) < 0.01] = np.nan
        frame = pl.DataFrame(
            {
                "sensor_id": names.gather(np.tile(np.arange(SENSORS, dtype=np.uint32), steps)),
                "timestamp": times.gather(np.repeat(np.arange(steps, dtype=np.uint32), SENSORS)),
                "flow": pl.Series(values.ravel(), nan_to_null=True),
            }
        )
        frame.write_parquet(folder / "readings" / f"{start:%Y-%m-%d}.parquet", row_group_size=1 << 20)
        rows += len(frame)
    pl.DataFrame(
        {"sensor_id": names, "x_m": random.uniform(0, 1e4, SENSORS), "y_m": random.uniform(0, 1e4, SENSORS)}
    ).write_csv(folder / "sensors.csv")
    return rows


def run() -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told("writing 50 million readings")
        pid = os.fork()  # so that what writing needs is not counted
        if not pid:
            write(folder)
            os._exit(0)
        os.waitpid(pid, 0)
        config = StreamConfig.model_validate(STREAM)
        reader = readers.build(config.source.spec(), context=SourceContext(config, folder, folder, folder))
        ids = tuple(reader.sensors()["sensor_id"].to_list())
        tensors: list[SeriesTensor] = []
        steps: list[list[object]] = []
        before = memory_mib(reset=True)
        for period in config.calendar.periods():
            spent = _period(reader, config, period, ids, tensors)
            steps.append([period.key, *spent, tensors[-1].values.size / sum(spent) / 1e6])
            told(f"{period.key}: {steps[-1][-1]:.2f} million readings a second")
        peak = memory_mib() - before
    rows = sum(tensor.values.size for tensor in tensors)
    output = sum(tensor.values.nbytes + tensor.flags.nbytes for tensor in tensors) / (1 << 20)
    whole = sum(float(part) for step in steps for part in step[1:4])  # type: ignore[arg-type]
    result = Result(f"Ingestion: {rows / 1e6:.0f} million readings of {SENSORS} sensors in {PERIODS} Parquet files")
    memory = f"{peak:.0f} MiB above the imported library, output {output:.0f} MiB"
    speed = rows / whole / 1e6
    result.figures = [
        Figure("Parquet to cleaned tensors", speed, "million readings a second", at_least=5, detail=f"{whole:.1f} s"),
        Figure("peak memory over the output", peak / output, "times", at_most=3, detail=memory),
    ]
    result.text = table(["period", "read, s", "clean, s", "tensor, s", "million readings a second"], steps)
    return result


def _period(
    reader: Reader, config: StreamConfig, period: Period, ids: tuple[str, ...], tensors: list[SeriesTensor]
) -> list[float]:
    """Seconds of reading, cleaning and building one period, whose tensor joins the others."""
    marks = [time.perf_counter()]
    raw = reader.readings(period)
    marks.append(time.perf_counter())
    frame = clean(raw, config, period)
    marks.append(time.perf_counter())
    tensors.append(build_tensor(frame, ids, config, period.key))
    marks.append(time.perf_counter())
    return [stop - start for start, stop in pairwise(marks)]


if __name__ == "__main__":
    print(run().to_json())
