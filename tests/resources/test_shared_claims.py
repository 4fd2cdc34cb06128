"""One machine trains a period: claims in a real Postgres, whose connections stand for machines."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from drills import services
from resources.executors import BROKER
from resources.instance import open_instance
from resources.shared_claims import claimed_for_all
from st_pipeline.errors import InputError

WHAT = "net/model of 2024"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    try:
        services.require()
    except services.Missing as missing:
        pytest.skip(f"no Postgres: {missing}")
    with services.postgres() as url:
        yield url


@pytest.fixture
def instance(database: str, workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Of the instance file that people copy."""
    monkeypatch.setenv("ST_PIPELINE_POSTGRES", database)
    folder = workspace.home / "dagster"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).resolve().parents[2] / "deploy" / "dagster.yaml", folder)
    with open_instance() as found:
        yield found


def claim(instance: dg.DagsterInstance, run: str, *, over: tuple[str, ...] = (), what: str = WHAT) -> Any:
    return claimed_for_all(instance, what=what, run=run, is_over=over.__contains__, patience=0.3)


def cut(database: str) -> None:
    """End all connections that hold a claim, as when their machine dies."""
    import psycopg2

    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    connection.close()


def test_of_two_machines_one_is_told_who_trains(instance: dg.DagsterInstance) -> None:
    with claim(instance, "first") as check:
        check()
        told = (
            rf"{WHAT} is being trained by run first \(pid {os.getpid()} on {socket.gethostname()}\) since .* UTC; wait"
        )
        with pytest.raises(InputError, match=told), claim(instance, "second"):
            pytest.fail("both train")
        with claim(instance, "second", what="net/other of 2024") as other:
            other()
        check()
    with claim(instance, "second") as check:
        check()


def test_a_run_that_is_over_is_asked_to_leave_and_stores_nothing(instance: dg.DagsterInstance) -> None:
    with claim(instance, "first") as check:
        with pytest.raises(InputError, match=r"held by run first .* has not left in 0 s"):
            claim(instance, "second", over=("first",)).__enter__()
        with pytest.raises(InputError, match=f"{WHAT}: another run has taken over from this process .*nothing of it"):
            check()
    with claim(instance, "second", over=("first",)) as check:
        check()


def test_a_dead_machine_gives_its_claim_back_and_notices(instance: dg.DagsterInstance, database: str) -> None:
    with claim(instance, "first") as check:
        cut(database)
        with claim(instance, "second") as second:
            second()
            with pytest.raises(InputError, match=f"{WHAT}: the claim cannot be held, since Postgres does not answer"):
                check()


def test_numbers_only_grow(instance: dg.DagsterInstance) -> None:
    with claim(instance, "first") as old:
        pass
    with claim(instance, "second"), pytest.raises(InputError, match=r"Postgres does not answer|has taken over"):
        old()


def test_workers_without_postgres_are_refused(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_instance() as alone:
        with claim(alone, "first") as check:
            check()
        monkeypatch.setenv(BROKER, "redis://127.0.0.1:1/0")
        with pytest.raises(InputError, match=r"records lie in SQLite.*put them into Postgres \(deploy/dagster.yaml\)"):
            claim(alone, "first")


def test_gc_and_backup_refuse_records_in_postgres(instance: dg.DagsterInstance, workspace: Any) -> None:
    from resources.housekeeping import Limits, plan

    with pytest.raises(InputError, match="only SQLite under the home is kept tidy"):
        plan(instance, Limits())
    refused = workspace.command("backup", "saved.tar.gz")
    assert refused.returncode == 2 and "Dagster's records lie in Postgres" in refused.stderr


def test_a_database_that_is_away_is_one_sentence(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    services.require()
    folder = workspace.home / "dagster"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).resolve().parents[2] / "deploy" / "dagster.yaml", folder)
    for address, reason in (
        (None, "ST_PIPELINE_POSTGRES"),
        ("postgresql://u:secret@127.0.0.1:9/x", "too many retries for DB connection"),
    ):
        monkeypatch.delenv("ST_PIPELINE_POSTGRES", raising=False)
        if address:
            monkeypatch.setenv("ST_PIPELINE_POSTGRES", address)
        with pytest.raises(InputError) as told:
            open_instance()
        assert reason in str(told.value) and "secret" not in str(told.value) and "disk is full" not in str(told.value)
