"""A training by several processes is told of as it goes on, ends in a sentence if one dies, and goes on from there."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.progress import listening
from st_pipeline.training import processes
from st_pipeline.training.compute import Compute
from st_pipeline.training.processes import Work
from st_pipeline.training.ranks import Deserted, Ranks
from st_pipeline.training.resume import Journal
from st_pipeline.training.updates import update

LONG = {"epochs": 25, "batch": 32, "patience": 99}
PATIENCE = 120.0  # seconds for two processes to begin


@pytest.fixture
def given(make_learner, make_history, stored) -> tuple[Any, ...]:
    learner = make_learner("eac", training=LONG)
    return learner.stream, learner.model, "2024-01-01", stored(make_history(learner.stream))


def train(given: tuple[Any, ...], compute: Compute, **options: Any) -> dict[str, str]:
    """Digests of the parts."""
    stream, model, key, network = given
    parts = update(stream, model, key, network=network, previous={}, compute=compute, **options)
    assert list(parts) == list(model.parts)
    return {part: one.digest for part, by_seed in parts.items() for one in by_seed.values()}


@contextmanager
def killing_the_second(state: Path) -> Iterator[None]:
    """kill -9 of the process that was started last, when there is a state."""
    begin = time.monotonic()

    def kill() -> None:
        while not state.exists() and time.monotonic() - begin < PATIENCE:
            time.sleep(0.05)
        ours = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
        max(ours, key=lambda one: one.pid).send_signal(signal.SIGKILL)

    thread = Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_after_a_process_has_died_the_training_goes_on_to_the_same_bits(given, compute, tmp_path) -> None:
    wanted = train(given, compute)
    two = replace(compute, processes=2)
    journal = Journal(tmp_path / "journal", every=0)
    sentence = (
        "small/model of 2024-01-01: process 1 of the 2 that train it was ended by SIGKILL; .* is gone on from when"
    )
    with (
        killing_the_second(tmp_path / "journal" / "1.safetensors"),
        pytest.raises(InputError, match=sentence),
    ):
        train(given, two, journal=journal)
    logged: list[str] = []
    told: list[tuple[str, str]] = []
    with listening(lambda what, text: told.append((what, text))):
        assert train(given, two, journal=replace(journal, log=logged.append), log=logged.append) == wanted
    assert "2 processes" in logged[0]
    assert [line for line in logged if "goes on in epoch" in line]
    assert told[-1][0] == "small/model of 2024-01-01" and told[-1][1].startswith("epoch 25: loss")
    assert not [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


def test_a_model_whose_batches_are_whole_is_trained_by_one(make_learner, make_history, stored, compute) -> None:
    learner = make_learner(backbone={"name": "stid", "layers": 1})
    inputs = learner.stream, learner.model, "2024-01-01", stored(make_history(learner.stream))
    logged: list[str] = []
    assert train(inputs, replace(compute, processes=2), log=logged.append) == train(inputs, compute)
    assert "one process of 2 trains" in logged[0]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`work(update, rank=0, journal=None)`: a process's share, done here."""

    def do(update: Any, rank: int = 0, journal: Journal | None = None, launcher: int = os.getppid()) -> None:
        @contextmanager
        def joined(compute: Compute, *, meeting: str) -> Iterator[Compute]:
            assert meeting == f"file://{tmp_path}/meeting"
            yield replace(compute, ranks=Ranks(rank, 2))

        monkeypatch.setattr(processes, "joined", joined)
        monkeypatch.setenv("RANK", str(rank))
        Work(update, tmp_path, Compute(device="cpu"), journal, launcher)()

    return do


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_refuses_leaves_its_sentence(work, tmp_path, rank: int) -> None:
    def refuse(*_: Any) -> Any:
        raise InputError("training diverged")

    with pytest.raises(SystemExit):
        work(refuse, rank)
    assert (tmp_path / f"{rank}.error").read_text() == "training diverged"


def test_a_process_whose_fellow_has_gone_leaves_none(work, tmp_path, monkeypatch) -> None:
    def lose(*_: Any) -> Any:
        raise Deserted("gone")

    monkeypatch.setattr(processes, "STAY", 0)
    with pytest.raises(SystemExit):
        work(lose)
    assert not list(tmp_path.glob("*.error"))


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_tells_and_writes(work, tmp_path, rank: int) -> None:
    def update(compute: Compute, log: Any, journal: Journal) -> dict[str, Any]:
        log("a line")
        assert journal.writes == (rank == 0)
        return {}

    work(update, rank, Journal(tmp_path / "journal", every=0))
    told = (tmp_path / "told").read_text() if rank == 0 else ""
    assert [json.loads(line) for line in told.splitlines()] == ([["", "a line"]] if rank == 0 else [])


def test_a_process_that_nobody_waits_for_or_that_was_replaced_stops(work, tmp_path) -> None:
    def replaced() -> None:
        raise InputError("another run has taken over")

    def update(compute: Compute, log: Any, journal: Journal) -> dict[str, Any]:
        journal.check()
        return {}

    for launcher, check, problem in ((-1, bool, "has gone"), (os.getppid(), replaced, "another run has taken over")):
        with pytest.raises(SystemExit):
            work(update, 0, Journal(tmp_path, every=0, check=check), launcher)
        assert problem in (tmp_path / "0.error").read_text()


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-9, "", "process 1 of the 2 that train it was ended by SIGKILL; its output is in the step's log; nothing of"),
        (3, "", "process 1 of the 2 that train it ended with code 3; its output"),
        (1, "Traceback\nValueError: odd", r"ended with code 1 \(ValueError: odd\); its output"),
    ],
)
def test_how_a_process_ended_is_told(tmp_path, code: int, message: str, expected: str) -> None:
    own = Work(len, tmp_path, Compute(processes=2), None, 0)  # type: ignore[arg-type]
    failure = SimpleNamespace(exitcode=code, message=message, signal_name=lambda: signal.Signals(-code).name)
    with pytest.raises(InputError, match=expected):
        raise InputError(processes._reason(own, {1: failure}))
    write_atomic(tmp_path / "1.error", b"a sentence")
    assert processes._reason(own, {1: failure}) == "a sentence"
