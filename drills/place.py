"""A home of its own with a small simulated stream, and what lies in it after a drill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from resources.launcher import death_of, process_of
from st_pipeline.files import write_atomic
from st_pipeline.storage import FRAME, JSON, Codec

NAME = "drill"
PERIODS = ("2024-01-01", "2024-01-08")
TRAINING = {"epochs": 40, "batch": 8, "patience": 40}
EVERY = "0.05"  # seconds between two states
MODELS: list[dict[str, Any]] = [
    {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"},
    {"name": "stid", "backbone": "stid", "strategy": "online", "seeds": [1, 2]},
]
STREAM: dict[str, Any] = {
    "name": NAME,
    "source": {
        "format": "simulated",
        "sensors": 8,
        "growth": 2,
        "columns": {"flow": "flow", "speed": "speed", "x": "x_m", "y": "y_m", "distance": "distance_m"},
    },
    "timezone": "UTC",
    "step": "1h",
    "periods": {"every": "7d", "start": PERIODS[0], "end": "2024-01-15"},
    "target": "flow",
    "variables": {"flow": {"minimum": 0, "maximum": 9000}, "speed": {"sentinels": [-1]}},
    "graph": {"recipe": "distances"},
    "window": 6,
    "horizon": 3,
    "models": [{**model, "training": dict(TRAINING)} for model in MODELS],
}
ROOT = Path(__file__).resolve().parent.parent
QUICK = """
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec


class Quick(MetaPathFinder):  # Dagster's daemons look every 30 seconds, which no setting changes
    def find_spec(self, name, path, target=None):
        if name != "dagster._daemon.controller":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.DEFAULT_DAEMON_INTERVAL_SECONDS = 6

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Quick())
"""


@dataclass(frozen=True)
class Place:
    """A folder with a home and a stream file."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, stream: dict[str, Any] | None = None) -> Place:
        place = cls(folder)
        place.write(stream or STREAM)
        (folder / "sitecustomize.py").write_text(QUICK)
        return place

    def write(self, stream: dict[str, Any]) -> None:
        """Write the file of a stream, or another text into it."""
        file = self.folder / "streams" / stream["name"] / "stream.yaml"
        write_atomic(file, yaml.safe_dump(stream, sort_keys=False).encode())

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "ST_PIPELINE_HOME": str(self.home),
            "ST_PIPELINE_STREAMS": str(self.folder / "streams"),
            "ST_PIPELINE_DEVICE": "cpu",
            "ST_PIPELINE_THREADS": "1",
            "ST_PIPELINE_SAVE_EVERY": EVERY,
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
        }
        kept = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
        return {**kept, "OMP_NUM_THREADS": "1", **own}

    def start(self, *arguments: str, answer: Path | None = None) -> subprocess.Popen[bytes]:
        """An `st-pipeline` command in a process group of its own; what it says goes to `log`, or prints to `answer`."""
        command = [sys.executable, "-c", "from st_pipeline.cli import main; main()", *arguments]
        with (self.folder / "log").open("ab") as log, (answer or Path(os.devnull)).open("wb") as said:
            out = said if answer else log
            return subprocess.Popen(command, env=self.environment, stdout=out, stderr=log, start_new_session=True)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.home / "dagster")) as instance:
            yield instance

    def workers(self) -> list[int]:
        """Processes of the runs that are going on."""
        with self.instance() as instance:
            begun = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            alive = [run for run in begun if death_of(instance, run) is None]
            return [pid for run in alive if (pid := process_of(instance, run))]

    def weights(self) -> dict[str, str]:
        """Digest of every trained part, by file and seed."""
        from st_pipeline.training.checkpoint import CHECKPOINTS

        found = {}
        for path in sorted((self.home / "lake" / NAME).glob("*/*/*.safetensors")):
            for seed, one in CHECKPOINTS.load(path.read_bytes()).items():
                found[f"{path.relative_to(self.home / 'lake')} {seed}"] = one.digest
        return found

    def faults(self) -> list[str]:
        """What must not be: visible files that cannot be read, leftover states, runs that hang, two results."""
        codecs: dict[str, Codec[Any]] = {".parquet": FRAME, ".json": JSON}
        found = []
        for path in (self.home / "lake").rglob("*"):
            if path.suffix in codecs and not path.name.startswith("."):
                try:
                    codecs[path.suffix].load(path.read_bytes())
                except Exception as error:
                    found.append(f"{path}: {error}")
        found += [f"{path}: left" for path in (self.home / "resume").rglob("*.safetensors")]
        with self.instance() as instance:
            hanging = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            found += [f"run {run.run_id}: still {run.status.value}" for run in hanging]
            found += _twice(instance)
        return found


def _twice(instance: dg.DagsterInstance) -> list[str]:
    """Partitions of trained parts that were stored with different contents."""
    results: dict[str, set[str]] = defaultdict(set)
    for key in instance.all_asset_keys():
        if key.path[-1] in ("backbone", "prompt_pool"):
            for record in instance.fetch_materializations(key, limit=1000).records:
                stored = record.asset_materialization
                assert stored is not None
                name = f"{'/'.join(key.path)} of {stored.partition}"
                results[name].add((stored.tags or {})["dagster/data_version"])
    return [f"{name}: {len(versions)} results" for name, versions in results.items() if len(versions) > 1]


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a command with everything in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def verdict(folder: Path, faults: list[str], good: str) -> int:
    """The exit status of a drill, which says how it went; the folder stays only where there are faults."""
    if faults:
        print(f"{len(faults)} faults; the home is {folder}", *faults, sep="\n")
        return 1
    print(good)
    shutil.rmtree(folder)
    return 0
