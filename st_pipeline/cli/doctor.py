"""`doctor`: what this installation is and whether it can work."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from rich.markup import escape

from st_pipeline import __version__
from st_pipeline.cli import examination
from st_pipeline.cli.output import console, print_json
from st_pipeline.errors import InputError

PINNED = {"dagster": "1.13.27", "dagster-webserver": "1.13.27", "great-expectations": "1.24.1"}
PACKAGES = (
    *PINNED,
    "torch",
    "polars",
    "duckdb",
    "numpy",
    "pandas",
    "SQLAlchemy",
    "safetensors",
    "pydantic",
    "statsmodels",
)
GIB = 1 << 30
LEAST_DISK = 2  # GiB


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(as_json: bool) -> None:
    """Versions, device, memory, disk, instance, daemon and streams; exit code 1 if something is wrong."""
    facts, problems = examine()
    if as_json:
        print_json({**facts, "problems": problems})
    else:
        for name, value in facts.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            console.print(f"[dim]{name:<12}[/dim] {escape(str(text))}", soft_wrap=True)
        for problem in problems:
            console.print(f"[red]problem[/red]      {escape(problem)}", soft_wrap=True)
        if not problems:
            console.print("[green]all well[/green]")
    if problems:
        raise SystemExit(1)


def examine() -> tuple[dict[str, Any], list[str]]:
    """Facts by subject, and problems as sentences."""
    problems: list[str] = []
    facts: dict[str, Any] = {
        "st-pipeline": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": _packages(problems),
        "compute": _compute(problems),
        "state": _state(problems),
        "dagster": _dagster(problems),
        "alerts": _alerts(problems),
        "settings": examination.settings(problems),
        "disk": examination.disk_use(),
        "trainings": examination.locks(problems),
        "machine": examination.machine(problems),
        "streams": _streams(problems),
    }
    examination.writable(problems)
    return facts, problems


def _packages(problems: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            problems.append(f"package {name} is not installed; run `make install`")
    for name, wanted in PINNED.items():
        if name in found and found[name] != wanted:
            problems.append(f"{name} is {found[name]}, expected {wanted}; run `make install`")
    return found


def _compute(problems: list[str]) -> dict[str, Any]:
    import psutil
    import torch

    from st_pipeline.training.compute import Compute

    memory = psutil.virtual_memory()
    facts: dict[str, Any] = {
        "cores": os.cpu_count(),
        "memory": f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
        "CUDA devices": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    }
    try:
        compute = Compute.from_environment()
        facts |= {"device": str(compute.choose(0, "doctor").device), "threads": compute.threads}
    except InputError as error:
        problems.append(str(error))
    return facts


def _state(problems: list[str]) -> dict[str, Any]:
    from st_pipeline.storage import data_root, home

    folder = home()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(parent).free / GIB
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        problems.append(f"{folder} cannot be written; set ST_PIPELINE_HOME to a folder that can")
    if free < LEAST_DISK:
        problems.append(f"{parent} has {free:.1f} GiB free, expected at least {LEAST_DISK}")
    data = data_root()
    return {"home": str(folder), "free": f"{free:.1f} GiB", "data": f"{data}{'' if data.is_dir() else ' (not there)'}"}


def _dagster(problems: list[str]) -> dict[str, Any]:
    from st_pipeline.storage import home

    if not (home() / "dagster" / "dagster.yaml").exists():
        return {"instance": "none yet, made by the first run"}
    from dagster._daemon.controller import get_daemon_statuses

    from resources.instance import open_instance

    try:
        instance = open_instance()
        statuses = get_daemon_statuses(instance, instance.get_required_daemon_types())
        healthy = [name for name, status in statuses.items() if status.healthy]
        beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
        return {
            "instance": str(home() / "dagster"),
            "runs": instance.get_runs_count(),
            "daemon": "running" if healthy else "not running",
            "last heartbeat": f"{time.time() - max(beats):.0f} s ago" if beats else "never",
        }
    except InputError as error:
        problems.append(str(error))
        return {}


def _alerts(problems: list[str]) -> dict[str, Any]:
    """A daemon that is not there is no problem by itself: `alerts --check` is for those who need one."""
    from st_pipeline.alerts.book import Book
    from st_pipeline.alerts.channels import channels_from_environment
    from st_pipeline.alerts.heartbeat import silence

    quiet = silence()
    try:
        channels = channels_from_environment()
        found = {"open": len(Book(channels).open()), "channels": ", ".join(["file", *(one.name for one in channels)])}
    except InputError as error:
        problems.append(str(error))
        return {}
    return {**found, "last sign of life": "never" if quiet is None else f"{quiet:.0f} s ago"}


def _streams(problems: list[str]) -> dict[str, Any]:
    from st_pipeline.streams import load_streams

    found, faults = load_streams()
    problems += [fault.message for fault in faults]
    return {"valid": len(found), "broken": len(faults)}
