"""The simulated stream, from scenario to raw files.

Everything here is simulated: roads, drivers, detectors and faults. Traffic follows the cell transmission model
(see `traffic`) on a small city (`network`) under made-up demand (`demand`). All days run side by side: each begins at
03:00 with empty roads an hour before, when a real network is nearly empty too, and ends at 03:00.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.simulation.delivery import received_rows, truth_rows
from st_pipeline.simulation.detectors import Detector, Sample, install, measure
from st_pipeline.simulation.faults import Faulty, inject
from st_pipeline.simulation.network import City, build_city, measurable_cells
from st_pipeline.simulation.scenario import Scenario
from st_pipeline.simulation.tables import edges_table, sensors_table
from st_pipeline.simulation.timeline import Timeline, drive

NOTE = "Simulated: the roads, the traffic, the sensors and their faults are made up by st_pipeline.simulation."


@dataclass(frozen=True, kw_only=True)
class SimulatedPeriod:
    """One period: `readings` as received, `truth` as measured; columns as in the files of `write_stream`."""

    start: date
    truth: pl.DataFrame
    readings: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A simulated stream in memory."""

    scenario: Scenario
    network: City
    sensors: pl.DataFrame
    edges: pl.DataFrame
    periods: tuple[SimulatedPeriod, ...]


def simulate(scenario: Scenario) -> Simulation:
    """The whole stream in memory."""
    network = _network(scenario)
    detectors = install(network, scenario)
    return Simulation(
        scenario=scenario,
        network=network,
        sensors=sensors_table(network, detectors),
        edges=edges_table(network, detectors),
        periods=tuple(_periods(scenario, network, detectors)),
    )


def write_stream(scenario: Scenario, folder: Path) -> None:
    """Write the raw files of a stream, all or none; nothing happens when they are there already.

    `sensors.csv`: sensor_id, x_m, y_m, road, direction, kind, installed, retired, valid_from. A sensor works from its
    `installed` date to the day before `retired`; a moved sensor has a second row with its new place.
    `edges.csv`: source, target, distance_m, to the next sensors downstream.
    `readings/<period>.parquet`: sensor_id, timestamp (UTC, start of the interval), flow (veh/h), speed (km/h, -1 when
    no vehicle has passed, which is a flow of 0), received; what was received in the period, in that order. A file
    closes a quarter of an hour after the period, so that the last interval is in it.
    `truth/<period>.parquet`: sensor_id, timestamp, flow, speed, fault; every sensor in place and every step.
    `scenario.json`: the scenario and a note.

    Raises:
        ValueError: the folder has files, but not the stream of this scenario.
    """
    text = json.dumps({"note": NOTE, "scenario": asdict(scenario)}, indent=2, default=str) + "\n"
    if _is_complete(folder, text):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(scenario, draft)
        (draft / "scenario.json").write_text(text)
        draft.chmod(0o755)
        draft.replace(folder)
    except OSError:
        if not _is_complete(folder, text):  # otherwise another process has written the same stream meanwhile
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_complete(folder: Path, text: str) -> bool:
    """Whether the folder holds the stream that `text` describes; False when there is nothing in its way."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / "scenario.json"
    if path.is_file() and path.read_text() == text:
        return True
    found = "the stream of another scenario" if path.is_file() else "something else"
    raise ValueError(f"{folder} holds {found}; expected no such folder, an empty one, or the stream of this scenario")


def _write(scenario: Scenario, folder: Path) -> None:
    network = _network(scenario)
    detectors = install(network, scenario)
    sensors_table(network, detectors).write_csv(folder / "sensors.csv")
    edges_table(network, detectors).write_csv(folder / "edges.csv")
    for name in ("readings", "truth"):
        (folder / name).mkdir()
    for period in _periods(scenario, network, detectors):
        period.readings.write_parquet(folder / "readings" / f"{period.start}.parquet")
        period.truth.write_parquet(folder / "truth" / f"{period.start}.parquet")


def _network(scenario: Scenario) -> City:
    """A city with about a third of its cells observed, and never more than four fifths."""
    most = math.ceil(scenario.sensors_ever / (0.8 * measurable_cells(1)))
    return build_city(max(3, math.ceil(scenario.sensors / 12), most), scenario.rng("city"))


def _periods(scenario: Scenario, network: City, detectors: list[Detector]) -> Iterator[SimulatedPeriod]:
    watched = {cell for detector in detectors for cell in detector.cells}
    timeline = drive(scenario, network, cells=np.array(sorted(watched)))
    overdue: list[pl.DataFrame] = []
    for period in range(scenario.periods):
        sample, faulty = _observe(period, scenario, network, detectors, timeline)
        in_time, late = received_rows(sample, faulty, scenario=scenario, rng=scenario.rng("delivery", period))
        yield SimulatedPeriod(
            start=scenario.period_start(period),
            truth=truth_rows(sample, faulty, scenario),
            readings=pl.concat([in_time, *overdue]).sort("received", maintain_order=True),
        )
        overdue = [late]


def _observe(
    period: int, scenario: Scenario, network: City, detectors: list[Detector], timeline: Timeline
) -> tuple[Sample, Faulty]:
    """What the detectors in place in a period measure, and what becomes of it."""
    start, end = scenario.period_start(period), scenario.period_start(period + 1)
    present = tuple(detector for detector in detectors if detector.alive(start, end))
    cells = np.array([detector.cell_on(start) for detector in present])
    capacity = network.roads.capacity[cells] * 3600
    passed, held = timeline.period(period, cells=cells, scenario=scenario)
    flow, speed = measure(
        passed,
        held,
        gain=np.array([detector.gain for detector in present]),
        bias=np.array([detector.bias for detector in present]),
        capacity=capacity,
        length=network.roads.length[cells],
        hours=scenario.step_minutes / 60,
        rng=scenario.rng("measure", period),
    )
    day = np.arange(scenario.steps) * scenario.step_minutes // (24 * 60)
    life = np.array([((detector.retired or end) - start).days for detector in present])
    sample = Sample(period=period, detectors=present, alive=day[:, None] < life, flow=flow, speed=speed)
    road = network.cells["road"].to_numpy()[cells]
    return sample, inject(sample, capacity=capacity, road=road, scenario=scenario, rng=scenario.rng("faults", period))
