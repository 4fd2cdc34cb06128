"""A year of many streams through the scheduler, with stand-ins for the work: what the orchestration itself costs.

python -m drills.streams                                     100 streams of 1,000 sensors, 12 monthly periods
python -m drills.streams --streams 3 --periods 2             a short one
python -m drills.streams --streams 100 --periods 12 --minutes 5    as much of it as begins within that processor time

Definitions, sensors of new data, jobs, partitions and instance are the product's. Every month a raw file is dropped for
every stream; each stream's sensor is asked as Dagster's daemon asks it, and the runs that it asks for are executed.
Nothing is read, trained or drawn: in the place of a stream's assets a few steps write a small file for each and record
it.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import polars as pl
import psutil

from drills.landing import LANDED
from drills.place import Place
from drills.year import size_of
from st_pipeline.storage import FRAME, JSON, lake

START = 2024
MIB = 1 << 20
MOST = 12  # looks at one stream's files a period
ROWS = 2  # of a sensor in a raw file
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MODELS = [{"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"}]


@dataclass
class Cost:
    """What a year took.

    Attributes:
        ticks: seconds of every look of a sensor that asked for a run, and `idle` of those that did not.
        runs: seconds of every run.
        periods: of each a row: name, streams that were done, seconds, runs, MiB of the instance and of this process.
        failed: names of runs that failed.
    """

    streams: int
    assets: int
    loading: float
    ticks: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)
    periods: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def names(streams: int) -> list[str]:
    return [f"net{number:03d}" for number in range(streams)]


def make(folder: Path, streams: int, sensors: int, periods: int) -> Place:
    """A place with so many streams of monthly periods, their sensors and no readings yet."""
    place = Place.make(folder)
    shutil.rmtree(folder / "streams")
    table = pl.DataFrame({"sensor_id": ids_of(sensors), "x_m": range(sensors), "y_m": range(sensors)})
    edges = pl.DataFrame({"source": ids_of(sensors)[:-1], "target": ids_of(sensors)[1:], "distance_m": 1.0})
    for name in names(streams):
        calendar = {"every": "month", "start": f"{START}-01-01", "end": str(month(periods))}
        place.write({**LANDED, "name": name, "periods": calendar, "models": MODELS})
        raw = folder / "streams" / name / "raw"
        (raw / "readings").mkdir(parents=True)
        table.write_csv(raw / "sensors.csv")
        edges.write_csv(raw / "edges.csv")
    return place


def ids_of(sensors: int) -> list[str]:
    return [f"s{number:05d}" for number in range(sensors)]


def month(number: int) -> date:
    return date(START + number // 12, 1 + number % 12, 1)


def drop(place: Place, streams: int, sensors: int, number: int) -> None:
    """The raw file of a period for every stream: a few readings of every sensor."""
    begin = datetime.combine(month(number), datetime.min.time(), UTC)
    times = [begin + timedelta(hours=hour) for hour in range(ROWS) for _ in range(sensors)]
    columns = {"sensor_id": ids_of(sensors) * ROWS, "timestamp": times}
    payload = FRAME.dump(pl.DataFrame(columns).with_columns(flow=pl.lit(1.0), speed=pl.lit(50.0)))
    for name in names(streams):
        (place.folder / "streams" / name / "raw" / "readings" / f"{month(number)}.parquet").write_bytes(payload)


def stand_ins(real: dg.Definitions) -> dg.Definitions:
    """The product's definitions with stand-ins for the assets' work."""
    order = list(real.resolve_asset_graph().toposorted_asset_keys)
    specs = {spec.key: spec for asset in real.assets or () for spec in asset.specs}  # type: ignore[union-attr]
    assets: list[dg.AssetsDefinition] = []
    for stream in sorted({key.path[0] for key in specs}):
        own = [specs[key] for key in order if key in specs and key.path[0] == stream]
        groups = _groups([spec for spec in own if spec.partitions_def])
        assets += [_stand_in(f"{stream}_stand_in_{number}", group) for number, group in enumerate(groups)]
        assets += [_stand_in("_".join(spec.key.path), [spec]) for spec in own if not spec.partitions_def]
    return dg.Definitions(
        assets=assets,
        jobs=real.jobs,
        sensors=real.sensors,
        schedules=real.schedules,
        executor=dg.in_process_executor,
    )


def _groups(specs: list[dg.AssetSpec]) -> list[list[dg.AssetSpec]]:
    """In as few steps as may be: one step has the same partitions of what it reads for all of its assets."""
    groups: list[tuple[list[dg.AssetSpec], dict[dg.AssetKey, Any]]] = []
    for spec in specs:
        wanted = {dep.asset_key: dep.partition_mapping for dep in spec.deps}
        for members, mappings in groups:
            if all(mappings.get(key, mapping) == mapping for key, mapping in wanted.items()):
                members.append(spec)
                mappings |= wanted
                break
        else:
            groups.append(([spec], wanted))
    return [members for members, _ in groups]


def _stand_in(name: str, specs: list[dg.AssetSpec]) -> dg.AssetsDefinition:
    """One step that writes a small file for each asset that is selected."""

    @dg.multi_asset(name=name, specs=specs, can_subset=len(specs) > 1)
    def work(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        period = context.partition_key if context.has_partition_key else None
        for spec in specs:
            if spec.key in context.selected_asset_keys:
                _write(tuple(spec.key.path), period)
                version = dg.DataVersion(f"{'/'.join(spec.key.path)} {period}")
                yield dg.MaterializeResult(spec.key, metadata={"seconds": 1.0}, data_version=version)

    return work


def _write(key: tuple[str, ...], period: str | None) -> None:
    if key[-1] in ("raw_readings", "edges"):
        frame = pl.DataFrame({"file": [f"{period}.parquet"]})
        lake().write(key, period, FRAME, FRAME.dump(frame))
    else:
        lake().write(key, period, JSON, JSON.dump({"of": period}))


class Scheduler:
    """Dagster's daemon for all streams, in this process and without its clocks."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions, cost: Cost, seconds: float) -> None:
        self.instance, self.cost, self.definitions = instance, cost, definitions
        self.seconds = seconds  # of processor time
        self.repository = definitions.get_repository_def()
        self.cursors: dict[str, str] = {}

    @property
    def over(self) -> bool:
        """Whether the processor time is spent."""
        return time.process_time() > self.seconds

    def catch_up(self, stream: str) -> None:
        """Ask the stream's sensor until nothing is new any more, and execute what it asks for."""
        sensor = self.definitions.resolve_sensor_def(f"{stream}_new_data")
        job = self.definitions.resolve_job_def(f"{stream}_period")
        for _ in range(MOST):
            context = dg.build_sensor_context(
                instance=self.instance, cursor=self.cursors.get(stream), repository_def=self.repository
            )
            begin = time.perf_counter()
            found: Any = sensor(context)
            spent = time.perf_counter() - begin
            self.cursors[stream] = found.cursor
            (self.cost.ticks if found.run_requests else self.cost.idle).append(spent)
            for request in found.run_requests or ():
                self._execute(job, request)
            if found.skip_reason and found.skip_reason.skip_message.startswith("nothing is new"):
                return
        self.cost.failed.append(f"{stream}: the sensor asks again and again")

    def _execute(self, job: dg.JobDefinition, request: dg.RunRequest) -> None:
        begin = time.perf_counter()
        result = job.execute_in_process(
            partition_key=request.partition_key,
            asset_selection=list(request.asset_selection or ()),
            tags=dict(request.tags),
            run_config=QUIET,
            instance=self.instance,
            raise_on_error=False,
        )
        self.cost.runs.append(time.perf_counter() - begin)
        if not result.success:
            self.cost.failed.append(str(request.run_key))


def drill(
    folder: Path, *, streams: int, sensors: int, periods: int, minutes: float, told: Callable[[str], object] = print
) -> Cost:
    """A year, or as much of it as begins within so many minutes of processor time."""
    place = make(folder, streams, sensors, periods)
    os.environ.update(place.environment)
    from resources.instance import open_instance
    from st_pipeline import streams as known

    known.SHIPPED = folder / "none"
    from st_pipeline.definitions import build

    begin = time.perf_counter()
    definitions = stand_ins(build())
    definitions.get_repository_def()
    own = set(names(streams))
    assets = sum(key.path[0] in own for key in definitions.resolve_asset_graph().get_all_asset_keys())
    cost = Cost(streams, assets, time.perf_counter() - begin)
    told(f"{streams} streams, {assets} assets, defined in {cost.loading:.1f} s")
    with open_instance() as instance:
        scheduler = Scheduler(instance, definitions, cost, 60 * minutes)
        for number in range(periods):
            if scheduler.over:
                break
            drop(place, streams, sensors, number)
            begin, before = time.perf_counter(), len(cost.runs)
            done = [scheduler.catch_up(name) for name in names(streams) if not scheduler.over]
            row = _row(place, str(month(number)), time.perf_counter() - begin, len(cost.runs) - before)
            cost.periods.append({**row, "streams": len(done)})
            told(_told(cost.periods[-1]))
    return cost


def _row(place: Place, period: str, seconds: float, runs: int) -> dict[str, Any]:
    memory = psutil.Process().memory_info().rss / MIB
    instance = size_of(place.home / "dagster")
    return {"period": period, "seconds": seconds, "runs": runs, "instance": instance, "memory": memory}


def _told(row: dict[str, Any]) -> str:
    sizes = f"instance {row['instance']:.0f} MiB, process {row['memory']:.0f} MiB"
    return f"{row['period']}: {row['streams']} streams, {row['seconds']:.0f} s, {row['runs']} runs, {sizes}"


def summary(cost: Cost) -> str:
    """The figures in a few lines."""
    last = cost.periods[-1]
    spans = {"a look that asks for a run": cost.ticks, "a look that does not": cost.idle, "a run": cost.runs}
    lines = [
        f"{name}: median {median(spent):.3f} s, longest {max(spent):.3f} s, {len(spent)} of them"
        for name, spent in spans.items()
        if spent
    ]
    done, wide = len(cost.periods), sum(row["streams"] for row in cost.periods)
    lines.append(
        f"{done} periods: {len(cost.runs) / wide:.2f} runs and {last['instance'] / wide:.2f} MiB each and stream"
    )
    lines.append(f"process at the end {last['memory']:.0f} MiB; {time.process_time():.0f} s of processor time in all")
    return "\n".join([*lines, *(f"failed: {name}" for name in cost.failed)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m drills.streams", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--sensors", type=int, default=1000)
    parser.add_argument("--periods", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=1e9, help="of processor time, after which no stream begins")
    asked = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="streams_"))
    size = {name: getattr(asked, name) for name in ("streams", "sensors", "periods", "minutes")}
    cost = drill(folder, **size)
    print(summary(cost))
    shutil.rmtree(folder)
    return 1 if cost.failed else 0


if __name__ == "__main__":
    sys.exit(main())
