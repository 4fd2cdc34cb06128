"""The drill of a crowd, short: a run and a forecast at once on a new home, and that it sees what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from drills import crowd
from drills.ledger import faults_of
from drills.memory import Memory
from drills.place import STREAM, Place
from resources.instance import open_instance

WEEK = {**STREAM, "periods": {"every": "7d", "start": "2024-01-01", "end": "2024-01-08"}}
KEY = dg.AssetKey(["crowd0", "readings"])


def test_a_run_and_a_forecast_get_along(tmp_path: Path) -> None:
    told: list[str] = []
    found = crowd.drill(tmp_path, runs=1, seconds=0, every=0, server=False, stream=WEEK, told=told.append)
    assert found.faults == []
    assert {name.split("/")[0] for name in found.claimed} == {"crowd0"}
    assert len(found.seconds["run"]) == 1 and len(found.seconds["forecast"]) == 1
    assert told[0].startswith("memory: at most ")


def test_memory_is_that_of_processes_under_this_one() -> None:
    with Memory(every=0.01) as memory:
        pass
    assert memory.samples[0][1] >= 0
    assert memory.peak_mib == max(mib for mib, _ in memory.samples)


@pytest.fixture
def told(workspace: Any) -> Iterator[tuple[dg.DagsterInstance, Place]]:
    """A home with one asset that was made as it should be."""

    @dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(["a"]))
    def readings() -> dg.MaterializeResult[Any]:
        file = workspace.home / "lake/crowd0/readings/a.parquet"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"123")
        return dg.MaterializeResult(metadata={"bytes": 3})

    with open_instance() as instance:
        dg.materialize([readings], partition_key="a", instance=instance)
        yield instance, Place(workspace.folder)


def test_a_home_as_it_should_be_has_no_fault(told: tuple[dg.DagsterInstance, Place]) -> None:
    assert faults_of(*told, {"crowd0/readings of a": 1}) == (1, [])


def test_what_is_lost_is_seen(told: tuple[dg.DagsterInstance, Place]) -> None:
    instance, place = told
    (place.home / "lake/crowd0/readings/b.parquet").write_bytes(b"")
    (place.home / "lake/crowd0/readings/a.parquet").write_bytes(b"1234")
    (place.folder / "log").write_text("sqlite3.OperationalError: database is locked")
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="a", metadata={"bytes": 3}))
    faults = faults_of(instance, place, {"crowd0/readings of a": 3})[1]
    for part in (
        "the index 1 times",
        "'database is locked'",
        "a.parquet: 4 bytes; its newest record says 3",
        "b.parquet: no record",
        "made 3 times, recorded 2 times",
    ):
        assert sum(part in fault for fault in faults) == 1, part
    assert len(faults) == 5


def test_a_run_that_failed_is_seen_unless_it_was_killed(told: tuple[dg.DagsterInstance, Place]) -> None:
    instance, place = told

    @dg.asset
    def broken() -> None:
        raise ValueError("nothing works")

    dg.materialize([broken], instance=instance, raise_on_error=False)
    assert "nothing works" in faults_of(instance, place, {})[1][0]
    assert faults_of(instance, place, {}, dead=1)[1] == []
