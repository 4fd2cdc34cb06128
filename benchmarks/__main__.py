"""Run the benchmarks, each in a process of its own, and write docs/benchmarks.md.

python -m benchmarks                all of them, about twenty minutes on two cores
python -m benchmarks training       one; the document keeps what it has of the others
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.figures import Figure, Result

NAMES = (
    "training",
    "evaluation",
    "experiment",
    "ingestion",
    "propagation",
    "scaling",
    "processes",
    "orchestration",
    "gpu",
    "alignment",
)
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
FOUND = Path(__file__).resolve().parent / "results.json"
PACKAGES = ("torch", "polars", "numpy", "pyarrow", "dagster")


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    if unknown := [name for name in chosen if name not in NAMES]:
        sys.exit(f"there is no benchmark {unknown[0]!r}; expected {', '.join(NAMES)}")
    found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    for name in chosen:
        print(f"== {name}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"benchmark {name} ended with {done.returncode}")
        found[name] = {"machine": machine(), "result": done.stdout.strip().splitlines()[-1]}
        FOUND.write_text(json.dumps(found, indent=1))
    DOCUMENT.write_text(document(found))
    print(f"written {DOCUMENT}")


def machine() -> str:
    """What these figures were measured on."""
    memory = psutil.virtual_memory().total / (1 << 30)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    day = datetime.now(UTC).date()
    hardware = f"{_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB"
    return f"{hardware}; Python {platform.python_version()}, {versions}; {day}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def document(found: dict[str, dict[str, str]]) -> str:
    """The page: every figure beside what was asked, then what is behind it."""
    results = {name: Result.from_json(found[name]["result"]) for name in NAMES if name in found}
    rows = [_row(figure) for result in results.values() for figure in result.figures]
    summary = "| figure | asked | measured | | behind it |\n| --- | --- | --- | --- | --- |\n" + "\n".join(rows)
    sections = [
        f"## {result.title}\n\nMeasured on {found[name]['machine']}.\n\n{result.text}"
        for name, result in results.items()
    ]
    return HEAD + summary + "\n\n" + "\n".join(sections)


def _row(figure: Figure) -> str:
    asked = (
        ""
        if figure.reached is None
        else f"at least {figure.at_least:g}"
        if figure.at_least is not None
        else f"at most {figure.at_most:g}"
    )
    mark = {None: "", True: "reached", False: "**not reached**"}[figure.reached]
    return f"| {figure.name} | {asked} | {figure.value:.3g} {figure.unit} | {mark} | {figure.detail} |"


HEAD = """# Benchmarks

Written by `make bench`; each figure is from one run on one machine, and a ratio has both sides in that run. The plain
form (`benchmarks/plain.py`) is the published method as it is published: dense adjacency, `Conv1d` along the hidden
axis, windows stored one by one and collated by a loader, in the same process with the same threads, from the same
weights over the same batches. Times are medians where more than one run is named; a machine that shares its memory
with others varies by a fifth from run to run.

"""

if __name__ == "__main__":
    main()
