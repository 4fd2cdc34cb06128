"""What the orchestrator adds: imports, the code location, a step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Result, best, seconds, told

HEAVY = ("torch", "great_expectations", "matplotlib", "scipy", "pandas")
IMPORT = "import sys, st_pipeline.definitions; print(','.join(name for name in {heavy!r} if name in sys.modules))"
STEPS = """
import os
import sys
import time

import dagster as dg

from resources.instance import open_instance

os.environ["ST_PIPELINE_HOME"] = sys.argv[1]

@dg.asset
def first(): return 1

@dg.asset
def second(first): return first

@dg.asset
def third(second): return second

with open_instance() as instance:
    dg.materialize([first, second, third], instance=instance)
    begin = time.perf_counter()
    dg.materialize([first, second, third], instance=instance)
    print((time.perf_counter() - begin) / 3)
"""


def run() -> Result:
    result = Result("Orchestration")
    told("imports and the code location")
    spent, _ = best(lambda: _python("import st_pipeline.definitions"), 3)
    loaded = _python(IMPORT.format(heavy=HEAVY)).strip()
    bare, _ = best(lambda: _python("import dagster"), 3)
    count, names = len(loaded.split(",")) if loaded else 0, ", ".join(HEAVY)
    mostly = f"`import dagster` alone {bare:.2f} s"
    result.figures += [
        Figure("heavy libraries imported by the code location", count, f"of {names}", at_most=0, detail=loaded),
        Figure("code location imported in a new process", spent, "s", at_most=4, detail=mostly),
    ]
    with tempfile.TemporaryDirectory() as home:
        told("a stream with nothing to do, and with everything to do")
        command = [sys.executable, "-c", "from st_pipeline.cli import main; main()", "run", "tiny"]
        _write_stream(Path(home) / "streams" / "tiny")
        environment = {**os.environ, "ST_PIPELINE_HOME": home, "ST_PIPELINE_STREAMS": f"{home}/streams"}
        first = seconds(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
        assets = len([file for file in (Path(home) / "lake").rglob("*") if file.suffix in SUFFIXES])
        again = seconds(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
        bare_step = float(_python(STEPS, home))
    detail = f"{assets} assets in {first:.1f} s; imports, Great Expectations, training, plots and reports included"
    result.figures += [
        Figure("what a step costs by itself, in the product's instance", bare_step, "s", at_most=0.4),
        Figure("an asset of a tiny stream with all its work", first / assets, "s", detail=detail),
        Figure("the same command with nothing to do", again, "s"),
    ]
    return result


SUFFIXES = {".parquet", ".json", ".safetensors", ".html"}
STREAM = """
name: tiny
source:
  format: simulated
  sensors: 8
  growth: 2
  columns: {flow: flow, speed: speed, x: x_m, y: y_m, distance: distance_m}
timezone: UTC
step: 1h
periods: {every: 7d, start: 2024-01-01, end: 2024-01-29}
target: flow
variables: {flow: {minimum: 0, maximum: 9000}, speed: {sentinels: [-1]}}
graph: {recipe: distances}
window: 6
horizon: 3
models:
  - {name: eac, backbone: stgnn, prompt_pool: {rank: 2}, strategy: eac, training: {epochs: 2}}
"""


def _write_stream(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "stream.yaml").write_text(STREAM)


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(run().to_json())
