"""Two workers, Postgres, Redis and an S3 server on loopback; one worker is killed while it trains, and all periods end.

    python -m drills.cluster --folder FOLDER [--server]

Each worker has a home of its own, as on a machine of its own; only Postgres, Redis and the bucket are shared. The
periods are run by a process one after the other, or with `--server` by a backfill of `st-pipeline ui`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from drills.place import NAME, PERIODS, STREAM, Place
from drills.server import LAUNCH, Server
from drills.services import object_store, postgres, redis, require
from resources.executors import BROKER, LOST_AFTER

ROOT = Path(__file__).resolve().parent.parent
MODEL = {"name": "online", "backbone": "stgnn", "strategy": "online", "training": {"epochs": 150, "patience": 150}}
ASSETS = ("raw_readings", "edges", "readings", "node_set", "tensor", "adjacency")
SOURCES = ("raw_files", "sensors")
PART = (NAME, "online", "backbone")
LOST = 15  # seconds after which the dead worker's step is given out again
PATIENCE = 600.0


LEAD = """
import dagster as dg, json, sys
from dagster._core.definitions.reconstruct import ReconstructableRepository
from resources.instance import open_instance

asked = json.loads(sys.argv[1])
job = ReconstructableRepository.for_module("st_pipeline.definitions", "defs").get_reconstructable_job("__ASSET_JOB")
sources = [dg.AssetKey(["drill", name]) for name in asked["sources"]]
assets = [*(dg.AssetKey(["drill", name]) for name in asked["assets"]), dg.AssetKey(asked["part"])]
with open_instance() as instance:
    for period in (None, *asked["periods"]):
        tags = {"dagster/partition": period} if period else {}
        done = dg.execute_job(job, instance, tags=tags, asset_selection=assets if period else sources)
        if not done.success:
            sys.exit(1)
"""


@dataclass(frozen=True)
class Machine(Place):
    """A place whose processes share a database, a queue and a lake with those of other places."""

    shared: tuple[tuple[str, str], ...] = ()
    name: str = "home"

    @property
    def home(self) -> Path:
        return self.folder / self.name

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **dict(self.shared), "DAGSTER_HOME": str(self.home / "dagster")}

    def prepare(self) -> None:
        """The instance file, as a person copies it."""
        file = self.home / "dagster" / "dagster.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "deploy" / "dagster.yaml", file)

    def worker(self) -> subprocess.Popen[bytes]:
        """A worker of both queues in a process group of its own."""
        command = [sys.executable, "-m", "celery", "-A", "resources.workers", "worker", "-Q", "cpu,gpu", "-c", "1"]
        command += ["-n", self.name, "-l", "INFO", "--without-mingle", "--without-gossip"]
        with (self.folder / f"log_{self.name}").open("ab") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def launch(server: Server) -> str:
    """A backfill of the data and the model, all periods; returns its id."""
    wanted = [[NAME, name] for name in (*SOURCES, *ASSETS)] + [list(PART)]
    nodes = [node["assetKey"]["path"] for node in server.ask("{ assetNodes { assetKey { path } } }")["assetNodes"]]
    keys = [{"path": path} for path in wanted if path in nodes]
    answer = server.ask(LAUNCH, params={"assetSelection": keys, "partitionNames": list(PERIODS)})
    return str(answer["launchPartitionBackfill"]["backfillId"])


def trainer(connection: Any) -> int | None:
    """The process that holds the claim of a period; None while nobody does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        if not cursor.fetchone()[0]:  # nor need there be tables yet
            return None
        cursor.execute("SELECT value FROM kvs WHERE key LIKE 'st_pipeline/holder/%' ORDER BY key DESC")
        row = cursor.fetchone()
    return int(json.loads(row[0])["pid"]) if row else None


def kill_the_trainer(url: str, workers: list[subprocess.Popen[bytes]]) -> int:
    """Wait until somebody trains, kill that worker with all its processes; returns which one it was.

    Raises:
        TimeoutError: nobody trains.
    """
    import psycopg2

    deadline = time.monotonic() + PATIENCE
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        while time.monotonic() < deadline:
            if found := trainer(connection):
                number = [worker.pid for worker in workers].index(os.getpgid(found))
                end(workers[number])
                return number
            time.sleep(0.1)
    raise TimeoutError("nobody trained")


def lead(place: Place) -> subprocess.Popen[bytes]:
    """A process that runs the sources and then all periods in order, with the executor of its environment."""
    asked = json.dumps({"sources": SOURCES, "periods": PERIODS, "assets": ASSETS, "part": PART})
    with (place.folder / "log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", LEAD, asked], env=place.environment, stdout=log, stderr=log)


def digests(place: Place) -> dict[str, str]:
    """Digest of the weights of every period in the lake that a place's processes see."""
    code = """
import json
from st_pipeline.storage import lake
from st_pipeline.training.checkpoint import CHECKPOINTS
key = ("drill", "online", "backbone")
print(json.dumps({period: [one.digest for one in lake().read(key, period, CHECKPOINTS).values()][0]
                  for period in lake().periods(key, "safetensors")}))
"""
    done = subprocess.run([sys.executable, "-c", code], env=place.environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def drill(folder: Path, store: Mapping[str, str], *, by_server: bool = False) -> dict[str, Any]:
    """Run it.

    Args:
        store: the environment of clients of an S3 server with a bucket `lake`.
        by_server: a backfill of `st-pipeline ui` runs the periods.

    Returns:
        The end, which worker was killed, digests of the weights of both ways, and seconds.
    """
    require()
    folder.mkdir(parents=True, exist_ok=True)
    single = Place.make(folder, {**STREAM, "models": [MODEL]})
    with ExitStack() as stack:
        database, queue = stack.enter_context(postgres()), stack.enter_context(redis(folder))
        shared = {**store, "ST_PIPELINE_LAKE": f"s3://lake/{folder.name}", BROKER: queue}
        shared |= {"ST_PIPELINE_POSTGRES": database, LOST_AFTER: str(LOST)}
        head = Machine(folder, tuple(shared.items()), "head")
        machines = [replace(head, name=name) for name in ("one", "two")]
        for machine in (head, *machines):
            machine.prepare()
        workers = []
        for machine in machines:
            workers.append(machine.worker())
            stack.callback(end, workers[-1])
        begin = time.monotonic()
        ended = _by_server(head, stack) if by_server else _by_process(head, stack)
        killed = kill_the_trainer(database, workers)
        died = time.monotonic()
        while (status := ended()) is None:
            if time.monotonic() - died > PATIENCE:
                raise TimeoutError(f"the periods do not end; see {folder}/log*")
            time.sleep(0.5)
        seconds = {"until the kill": round(died - begin, 1), "after it": round(time.monotonic() - died, 1)}
        found = digests(head)
    lead(single).wait(PATIENCE)
    return {"ok": status, "killed": machines[killed].name, "weights": found, "alone": digests(single), **seconds}


def _by_process(head: Place, stack: ExitStack) -> Callable[[], bool | None]:
    """Start the periods; the value says whether all went well, None before their end."""
    process = lead(head)
    stack.callback(process.kill)
    return lambda: None if process.poll() is None else process.returncode == 0


def _by_server(head: Place, stack: ExitStack) -> Callable[[], bool | None]:
    server = Server.start(head)
    stack.callback(end, server.process)
    backfill = launch(server)

    def ended() -> bool | None:
        status = server.status(backfill)
        return None if status in ("REQUESTED", "IN_PROGRESS") else status == "COMPLETED_SUCCESS"

    return ended


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Is made, and kept.")
@click.option("--server", is_flag=True, help="By a backfill of `st-pipeline ui`.")
def main(folder: Path, server: bool) -> None:
    """Kill one of two workers while it trains; the weights must be those of one machine."""
    with object_store() as store:
        result = drill(folder, store, by_server=server)
    print(json.dumps(result, indent=1))
    sys.exit(not result["ok"] or result["weights"] != result["alone"])


if __name__ == "__main__":
    main()
