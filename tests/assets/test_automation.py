"""New and changed raw files are taken up by themselves, in order, once, and survive restarts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from resources.instance import open_instance
from resources.stages import LANDED
from st_pipeline import streams as finding
from st_pipeline.definitions import build
from st_pipeline.landing.watch import Watch

NAME = "small"
PERIODS = ["2024-01-01", "2024-01-08", "2024-01-15"]


@dataclass
class Daemon:
    """Evaluates a stream's sensor and runs what it asks for, as Dagster's daemon does."""

    workspace: Any
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    cursor: str | None = None
    runs: list[tuple[str | None, set[str]]] = field(default_factory=list)

    def tick(self, stream: str = NAME) -> str:
        """One evaluation; what it says, or `ran`."""
        repository = self.definitions.get_repository_def()
        sensor = repository.get_sensor_def(f"{stream}_new_data")
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, repository_def=repository)
        found = sensor.evaluate_tick(context)
        self.cursor = found.cursor
        for request in found.run_requests or []:
            keys = list(request.asset_selection or [])
            done = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                partition_key=request.partition_key,
                asset_selection=keys,
                instance=self.instance,
                raise_on_error=False,
                tags=dict(request.tags),
                run_config={**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            self.runs.append((request.partition_key, {"/".join(key.path[1:]) for key in keys}))
            self.last = done
        return "ran" if found.run_requests else str(found.skip_message)

    def settle(self, most: int = 40) -> str:
        """Ticks until two in a row say the same and run nothing."""
        before = ""
        for _ in range(most):
            said = self.tick()
            if said == before != "ran":
                return said
            before = said
        raise AssertionError(f"still {before}")

    def periods_of(self, asset: str) -> list[str | None]:
        """Periods of an asset in the order of their runs."""
        return [period for period, names in self.runs if asset in names]


@pytest.fixture
def daemon(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A landed stream with one small model; the files of its later periods wait in `aside`."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    model = {"name": "online", "backbone": "stgnn", "strategy": "online", "training": {"epochs": 1}}
    workspace.landed_stream(NAME, models=[model], automation={"new_data": True})
    aside = workspace.folder / "aside"
    aside.mkdir()
    for period in PERIODS[1:]:
        shutil.move(workspace.raw(NAME, period), aside / f"{period}.parquet")
    with open_instance() as instance:
        yield Daemon(workspace, instance, build())


def drop(daemon: Daemon, period: str) -> Path:
    """Let a period's file arrive."""
    file = daemon.workspace.raw(NAME, period)
    shutil.copy(daemon.workspace.folder / "aside" / file.name, file)
    return file


def test_a_dropped_period_is_run_and_everything_comes_once(daemon: Daemon) -> None:
    assert "not changed between two looks" in daemon.tick()
    assert daemon.settle() == "nothing is new"
    assert daemon.periods_of("online/backbone") == PERIODS[:1]
    assert daemon.periods_of("leaderboard") == [None]
    for period in PERIODS[1:]:
        drop(daemon, period)
    count = len(daemon.runs)
    assert "waits until" in daemon.tick()
    assert daemon.settle() == "nothing is new"
    assert daemon.periods_of("online/backbone")[-2:] == PERIODS[1:]
    assert len(daemon.runs) > count
    count = len(daemon.runs)
    again = drop(daemon, PERIODS[2])
    os.utime(again)
    daemon.cursor = Watch.load(daemon.cursor).dump()
    assert daemon.settle() == "nothing is new"
    assert len(daemon.runs) == count
    assert LANDED[0] in daemon.runs[1][1] and pl.read_parquet(again).height
