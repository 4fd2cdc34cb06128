"""One process trains a period of a model; the other is told, and one that was declared dead stores nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.training.claims import claimed

HOLD = """
import sys, time
from pathlib import Path
from st_pipeline.errors import InputError
from st_pipeline.training.claims import claimed

with claimed(Path(sys.argv[1]), what="s/m of 1", run="first") as claim:
    print("held", flush=True)
    while sys.argv[2] == "deaf":
        time.sleep(1)
    try:
        while True:
            claim.check()
            time.sleep(0.05)
    except InputError as error:
        print(error, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "resume" / "s" / "m" / "1.lock"


@pytest.fixture
def other(path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """`other("deaf")`: another process that holds the claim; without it, one that leaves when it is asked to."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str = "polite") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(path), kind]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout and started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def held(path: Path, **given: Any) -> Any:
    return claimed(path, what="s/m of 1", run="second", **given)


def test_the_second_is_told_who_holds_it(path, other) -> None:
    process = other()
    sentence = (
        rf"s/m of 1 is being trained by run first \(pid {process.pid}\) since \d{{4}}-.*wait until that has ended"
    )
    with pytest.raises(InputError, match=sentence), held(path):
        pytest.fail("two hold it")


def test_a_claim_dies_with_its_process(path, other) -> None:
    process = other()
    process.kill()
    process.wait()
    with held(path) as claim:
        claim.check()


def test_a_run_that_is_over_is_asked_to_leave_and_stores_nothing(path, other) -> None:
    process = other()
    with held(path, is_over=lambda run: run == "first") as claim:
        claim.check()
        assert process.stdout is not None
        assert "another run has taken over" in process.stdout.readline()


def test_one_that_does_not_leave_is_named(path, other) -> None:
    process = other("deaf")
    with pytest.raises(InputError, match=rf"pid {process.pid}.*has not left in 1 s"):  # noqa: SIM117
        with held(path, is_over=lambda _: True, patience=1):
            pytest.fail("two hold it")


def test_numbers_only_grow(path: Path) -> None:
    tokens = []
    for _ in range(3):
        with held(path) as claim:
            tokens.append(claim.token)
    owner = path.with_suffix(".owner.json")
    future = {**json.loads(owner.read_text()), "token": tokens[-1] + 10**18}
    owner.write_text(json.dumps(future))  # the clock has been set back since
    with held(path) as claim:
        tokens.append(claim.token)
    assert tokens == sorted(set(tokens))
    assert tokens[-1] == future["token"] + 1


@pytest.mark.parametrize("spoiled", ["", "[]", '{"token": "7"}', None])
def test_a_holder_whose_files_were_taken_away_stores_nothing(path: Path, spoiled: str | None) -> None:
    owner = path.with_suffix(".owner.json")
    with held(path) as claim:
        if spoiled is None:
            owner.unlink()
        else:
            owner.write_text(spoiled)
        with pytest.raises(InputError, match="taken over"):
            claim.check()
    with held(path) as claim:
        claim.check()


def test_the_same_process_may_claim_again_afterwards_and_not_meanwhile(path: Path) -> None:
    with held(path), pytest.raises(InputError, match="is being trained by run second"), held(path):
        pytest.fail("two hold it")
    with held(path) as claim:
        claim.check()


def test_a_step_that_failed_in_this_process_holds_nobody_up(path: Path) -> None:
    abandoned = held(path)
    claim = abandoned.__enter__()
    with held(path, is_over=lambda run: run == "second") as newer:
        newer.check()
        with pytest.raises(InputError, match="taken over"):
            claim.check()
        abandoned.__exit__(None, None, None)
        newer.check()
        with pytest.raises(InputError, match="is being trained"), held(path):
            pytest.fail("two hold it")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be opened"), held(tmp_path / "file" / "1.lock"):
        pytest.fail("held nothing")
