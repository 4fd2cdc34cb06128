"""`run` and `demo`: materialise a stream through Dagster, periods in order."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from st_pipeline.cli.output import console, print_json
from st_pipeline.errors import InputError
from st_pipeline.progress import WRITTEN, listening

if TYPE_CHECKING:
    from st_pipeline.cli.runner import Outcome, Scope
    from st_pipeline.streams import Stream

EMBEDDED = "roadnet"


@click.command()
@click.argument("stream")
@click.option("--periods", metavar="A..B", help="Only these periods, or one; a model needs its previous period.")
@click.option("--models", metavar="A,B", help="Only these models, without report and leaderboard.")
@click.option("--compare", is_flag=True, help="Also the methods under `compare`, and the comparison with the champion.")
@click.option("--studies", is_flag=True, help="Also the studies.")
@click.option("--data", type=click.Path(), help="Folder of raw data, instead of ST_PIPELINE_DATA.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def run(
    stream: str,
    periods: str | None,
    models: str | None,
    compare: bool,
    studies: bool,
    data: str | None,
    as_json: bool,
) -> None:
    """Bring STREAM up to date: only what is missing or stale is computed, through Dagster, periods in order."""
    take_data_from(data)
    asked = {"periods": periods, "models": models, "compare": compare, "studies": studies}
    materialise(stream, asked, as_json=as_json, show=not models)


def take_data_from(folder: str | None) -> None:
    """Look raw data up in this folder from here on; None leaves that as it is.

    Raises:
        InputError: there is no such folder.
    """
    if folder is not None:
        if not Path(folder).is_dir():
            raise InputError(f"--data {folder}: there is no such folder")
        os.environ["ST_PIPELINE_DATA"] = str(Path(folder).resolve())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def demo(as_json: bool) -> None:
    """Materialise the embedded, simulated road network: all periods, all models; print the leaderboard."""
    materialise(EMBEDDED, {"periods": None, "models": None}, as_json=as_json, show=True)


def materialise(name: str, asked: Mapping[str, Any], *, as_json: bool, show: bool) -> None:
    """Run a stream with progress, print what came out, and exit with 1 if something failed.

    Args:
        asked: arguments of `runner.scope`.
    """
    from st_pipeline.cli.look import has_leaderboard, leaderboard_rows, report_path, show_leaderboard
    from st_pipeline.cli.runner import scope
    from st_pipeline.streams import find_stream

    begin = time.perf_counter()
    stream = find_stream(name)
    outcome = execute(stream, scope(stream, **asked), quiet=as_json)
    seconds = time.perf_counter() - begin
    if as_json:
        rows = leaderboard_rows(stream) if show and has_leaderboard(stream) else []
        print_json(
            {
                **vars(outcome),
                "seconds": round(seconds, 1),
                "report": str(report_path(stream, None) or ""),
                "leaderboard": rows,
            }
        )
    else:
        if show and has_leaderboard(stream):
            show_leaderboard(stream)
        print_outcome(name, outcome, seconds)
        if show and (report := report_path(stream, None)):
            console.print(f"report: {report}", soft_wrap=True)
    if not outcome.ok:
        raise SystemExit(1)


def execute(stream: Stream, *wanted: Scope, quiet: bool) -> Outcome:
    """Bring scopes of a stream up to date, one after the other, with progress unless `quiet`.

    Raises:
        InputError: a `ST_PIPELINE_*` variable of the compute resource cannot be kept.
    """
    from st_pipeline.cli.runner import Runner

    _check_compute(f"stream {stream.name!r}")
    with _Progress(stream.name, quiet=quiet) as progress, listening(progress.told):
        from resources.instance import open_instance
        from resources.launcher import bury_dead_runs
        from st_pipeline.definitions import defs

        instance = open_instance()
        bury_dead_runs(instance)
        runner = Runner(stream, instance, defs)
        for scope in wanted:
            runner.run(scope, progress.stage)
    return runner.outcome


def _check_compute(purpose: str) -> None:
    """Tell of a device that is not there before anything is materialised; nothing is asked for, nothing is imported.

    Raises:
        InputError: a `ST_PIPELINE_*` variable of the compute resource cannot be kept.
    """
    if any(
        os.environ.get(f"ST_PIPELINE_{name}") for name in ("DEVICE", "FALLBACK", "THREADS", "MEMORY_GIB", "SAVE_EVERY")
    ):
        from st_pipeline.training.compute import Compute

        Compute.from_environment().choose(0, purpose)


class _Progress:
    """A bar over all assets in scope with what is going on, and one line for every Dagster run."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self.quiet = quiet
        self.begin = time.perf_counter()
        columns = (
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        self.bar = Progress(*columns, console=Console(highlight=False), transient=True, disable=quiet)
        self.task = self.bar.add_task(f"{name}: loading", total=None)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def stage(self, text: str, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total, description=escape(text))
        if not self.quiet:
            self.bar.console.print(f"[dim]{time.perf_counter() - self.begin:6.1f} s[/dim]  {escape(text)}")

    def told(self, what: str, text: str) -> None:
        self.bar.update(self.task, advance=text == WRITTEN, description=escape(f"{what}: {text}"))


def print_outcome(name: str, outcome: Outcome, seconds: float) -> None:
    """What failed, what did not run for it, and how much was done."""
    for asset, reason in outcome.failed.items():
        console.print(f"[red]failed[/red]  {escape(f'{asset}: {reason}')}", soft_wrap=True)
    if outcome.blocked:
        shown = ", ".join(outcome.blocked[:6]) + (
            f" and {len(outcome.blocked) - 6} more" if len(outcome.blocked) > 6 else ""
        )
        console.print(
            f"[yellow]not run[/yellow]  {len(outcome.blocked)} assets that depend on it: {shown}", soft_wrap=True
        )
    done = (
        f"{len(outcome.materialised)} assets materialised"
        if outcome.materialised
        else "nothing to do, everything is up to date"
    )
    console.print(f"{name}: {done} in {seconds:.1f} s")
