"""A year's raw files, dropped period by period, and what goes wrong with them on the way."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl

from st_pipeline.files import write_atomic
from st_pipeline.simulation import Scenario, write_stream
from st_pipeline.storage import dump_frame


class Deliveries:
    """Files of all periods lie in one folder and arrive in another.

    Beside the faults of the simulation (outages of sensors, a sensor that is silent for a period and comes back, a
    moved and a retired one, late rows) three things take turns from the second period on: days are missing of the
    whole network; a sensor is silent for the period; half of the sensors come in a second file, one period late, in
    which one row of the first file is corrected.
    """

    def __init__(self, scenario: Scenario, source: Path, target: Path) -> None:
        self.scenario, self.source, self.target = scenario, source, target
        self.periods = [str(scenario.period_start(number)) for number in range(scenario.periods)]
        write_stream(scenario, source)
        target.mkdir(parents=True)
        for name in ("sensors.csv", "edges.csv"):
            shutil.copy(source / name, target)
        (target / "readings").mkdir()
        self.late: tuple[str, pl.DataFrame] | None = None

    def arrive(self, number: int) -> list[str]:
        """Drop the file of a period, and what was held back before; returns what happened to it."""
        period, events = self.periods[number], []
        rows = pl.read_parquet(self.source / "readings" / f"{period}.parquet")
        if self.late is not None:
            name, held = self.late
            self._drop(f"{name}.late.parquet", held)
            events.append(f"{len(held)} rows of {name} came late")
            self.late = None
        if number:
            how = (self._without_days, self._without_sensor, self._with_half)[(number - 1) % 3]
            rows, event = how(number, rows)
            events.append(event)
        self._drop(f"{period}.parquet", rows)
        return events

    def _without_days(self, number: int, rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
        """Without the second tenth of the period."""
        begin = self.scenario.period_start(number) + timedelta(days=self.scenario.days // 5)
        days = max(1, self.scenario.days // 10)
        inside = pl.col("timestamp").is_between(begin, begin + timedelta(days=days), closed="left")
        return rows.filter(~inside), f"{days} days missing"

    def _without_sensor(self, number: int, rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
        """Without the first sensor, which is back in the next period."""
        name = rows["sensor_id"].sort()[0]
        return rows.filter(pl.col("sensor_id") != name), f"{name} silent"

    def _with_half(self, number: int, rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
        """Half of the sensors; the others are held back, with a corrected row of one that is there."""
        names = rows["sensor_id"].unique().sort()
        there = pl.col("sensor_id").is_in(names[: len(names) // 2].to_list())
        wrong = rows.filter(there & (pl.col("flow") > 0)).sort("timestamp").head(1)
        right = wrong.with_columns(pl.col("flow") / 2, received=pl.col("received") + timedelta(days=self.scenario.days))
        if number + 1 == self.scenario.periods:
            return rows, "all sensors"
        self.late = self.periods[number], pl.concat([rows.filter(~there), right])
        return rows.filter(there), f"{len(names) - len(names) // 2} sensors held back"

    def _drop(self, name: str, rows: pl.DataFrame) -> None:
        write_atomic(self.target / "readings" / name, dump_frame(rows))
