"""Two runs of one period: one result, the other told; a disk that fails, and a run that was declared dead."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from assets.common import encoded
from resources.instance import open_instance
from resources.lake import io_managers, lake
from resources.training import training
from st_pipeline.errors import InputError
from st_pipeline.storage import JSON
from st_pipeline.training.resume import resume_root

ROOT = Path(__file__).resolve().parents[2]
DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-04")
DAY, LATER = "2024-01-01", "2024-01-02"
KEY = dg.AssetKey(["net", "model", "backbone"])
OUTS = {"result": dg.AssetOut(key=KEY, io_manager_key="documents")}
HOLD = """
import sys, time
from pathlib import Path
from st_pipeline.errors import InputError
from st_pipeline.training.claims import claimed

with claimed(Path(sys.argv[1]), what="net/model", run=sys.argv[2]) as claim:
    print("held", flush=True)
    try:
        while True:
            claim.check()
            time.sleep(0.05)
    except InputError:
        sys.exit(3)
"""


class Trained:
    """An asset that trains as models do, and what happens in the middle of it."""

    def __init__(self) -> None:
        self.middle: Callable[[dg.AssetExecutionContext, Any], object] = lambda context, journal: None
        self.value = 1

    def run(self, instance: dg.DagsterInstance, day: str = DAY) -> dg.ExecuteInProcessResult:
        @dg.multi_asset(outs=OUTS, partitions_def=DAYS)
        def backbone(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Any]]:
            with training(context, stream="net", model="model", every=0) as journal:
                (journal.folder).mkdir(parents=True, exist_ok=True)
                (journal.folder / "1.safetensors").write_bytes(b"state")
                self.middle(context, journal)
                yield encoded(self.value, JSON, {}, check=journal.check)
                journal.clear()

        return dg.materialize(
            [backbone], partition_key=day, resources=io_managers(), instance=instance, raise_on_error=False
        )

    def stored(self, day: str = DAY) -> Any:
        return lake().read(tuple(KEY.path), day, JSON)


@pytest.fixture
def trained() -> Trained:
    return Trained()


@pytest.fixture
def instance(workspace: Any) -> Iterator[dg.DagsterInstance]:
    with open_instance() as found:
        yield found


@pytest.fixture
def other(workspace: Any) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """`other(run)`: another process that trains the first period for a run."""
    started: list[subprocess.Popen[str]] = []

    def start(run: str) -> subprocess.Popen[str]:
        lock = resume_root() / "net" / "model" / f"{DAY}.lock"
        command = [sys.executable, "-c", HOLD, str(lock), run]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout and started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    return str(event.step_failure_data.user_failure_data.description)


def test_states_go_when_the_result_is_stored(instance, trained) -> None:
    assert trained.run(instance).success
    assert trained.stored() == 1
    assert not (resume_root() / "net" / "model" / DAY).exists()


def test_of_two_runs_one_is_told_who_trains(instance, trained, other) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    process = other(run.run_id)
    told = failure(trained.run(instance))
    assert f"net/model of {DAY} is being trained by run {run.run_id} (pid {process.pid})" in told
    assert not lake().exists(tuple(KEY.path), DAY, JSON)
    process.kill()
    process.wait()
    assert trained.run(instance).success


def test_a_process_whose_run_has_ended_leaves(instance, trained, other) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE)
    process = other(run.run_id)
    assert trained.run(instance).success
    assert process.wait(30) == 3


def test_one_that_has_been_replaced_stores_nothing(instance, trained) -> None:
    assert trained.run(instance).success

    def replace(context: dg.AssetExecutionContext, journal: Any) -> None:
        owner = resume_root() / "net" / "model" / f"{DAY}.owner.json"
        owner.write_text(json.dumps({**json.loads(owner.read_text()), "token": 2**62}))

    trained.middle, trained.value = replace, 2
    assert "another run has taken over" in failure(trained.run(instance))
    assert trained.stored() == 1


def test_one_that_waited_while_another_stored_is_told(instance, trained) -> None:
    def stored_meanwhile(context: Any, *_: Any) -> None:
        context.instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=DAY))

    trained.middle = stored_meanwhile
    assert trained.run(instance).success  # it looks before it trains

    @dg.multi_asset(outs=OUTS, partitions_def=DAYS)
    def late(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Any]]:
        stored_meanwhile(context)
        with training(context, stream="net", model="model", every=0):
            pytest.fail("trained twice")
        yield encoded(2, JSON, {})

    result = dg.materialize([late], partition_key=DAY, resources=io_managers(), instance=instance, raise_on_error=False)
    assert "while this run waited for its turn; that result stays" in failure(result)
    assert trained.stored() == 1


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_a_disk_that_fails_leaves_everything_and_the_next_run_goes_on(instance, trained, monkeypatch, reason) -> None:
    assert trained.run(instance).success
    own = os.fsync

    def fail(_: int) -> None:
        raise OSError(28, reason)

    trained.middle, trained.value = lambda *_: monkeypatch.setattr(os, "fsync", fail), 2
    told = failure(trained.run(instance))
    assert "cannot be written" in told and reason in told
    assert trained.stored() == 1
    assert (resume_root() / "net" / "model" / DAY / "1.safetensors").exists()
    monkeypatch.setattr(os, "fsync", own)
    trained.middle = lambda *_: None
    assert trained.run(instance).success  # in the same process: the claim of the failed step is given back
    assert trained.stored() == 2


def test_what_earlier_periods_left_goes_unless_they_are_in_training(instance, trained, other) -> None:
    left = resume_root() / "net" / "model" / DAY
    left.mkdir(parents=True)
    (left / "1.safetensors").write_bytes(b"state")
    process = other("live")
    assert trained.run(instance, LATER).success
    assert left.exists()
    process.kill()
    process.wait()
    assert trained.run(instance, LATER).success
    assert not left.exists()


def test_a_home_that_cannot_be_written_is_one_sentence(instance, trained) -> None:
    resume_root().parent.mkdir(parents=True, exist_ok=True)
    resume_root().write_text("")
    assert "the lock of net/model of 2024-01-01 cannot be opened" in failure(trained.run(instance))


def test_bad_input_in_the_training_is_one_sentence(instance, trained) -> None:
    def bad(*_: Any) -> None:
        raise InputError("the data are too short")

    trained.middle = bad
    assert failure(trained.run(instance)) == "the data are too short"


def test_the_lock_is_a_file_of_its_own(instance, trained) -> None:
    assert trained.run(instance).success
    names = {path.name for path in (resume_root() / "net" / "model").iterdir()}
    assert names == {f"{DAY}.lock", f"{DAY}.owner.json"}
    assert isinstance(json.loads(Path(resume_root() / "net" / "model" / f"{DAY}.owner.json").read_text())["token"], int)
