"""A training cut off anywhere and begun again ends with the bits of one that nothing disturbed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from errno import ENOSPC
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from st_pipeline.data.period_data import PeriodData
from st_pipeline.errors import InputError
from st_pipeline.training import fit as module
from st_pipeline.training import resume
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.learner import Learner
from st_pipeline.training.resume import Journal
from st_pipeline.training.updates import update

Parts = dict[str, Checkpoint]
FIT = {"epochs": 2, "batch": 60, "stride": 3}
KINDS: dict[str, dict[str, Any]] = {
    "online": {},
    "dropout": {"backbone": {"name": "stid", "layers": 1}},
    "dropout and batch statistics": {
        "backbone": {"name": "graph_wavenet", "hidden": 4, "skip": 8, "end": 8, "blocks": 1},
        "prompt_pool": None,
    },
    "network norm": {"backbone": {"name": "stgcn", "hidden": 4, "output": 4}, "prompt_pool": None},
    "coins for labels": {"backbone": {"name": "dcrnn", "hidden": 4, "layers": 1, "tau": 5}, "prompt_pool": None},
    "best is not last": {"training": {**FIT, "epochs": 3, "learning_rate": 0.4, "patience": 9}},
    "eac": {"strategy": "eac"},
    "relearner": {"strategy": "eac", "relearner": {}},
    "traffic_stream": {"strategy": "traffic_stream", "prompt_pool": None},
    "pecpm": {"backbone": {"name": "pecpm"}, "strategy": "pecpm", "prompt_pool": None},
    "tfmoe": {"backbone": {"name": "tfmoe"}, "strategy": "tfmoe", "prompt_pool": None},
    "cosine and clipping": {"training": {**FIT, "decay": "cosine", "clip": 0.1}},
    "lora": {"strategy": "lora", "lora": {"rank": 2}},
}


class Killed(BaseException):
    """What stands for a process that ends here."""


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are written whatever they cost."""
    monkeypatch.setattr(resume, "SHARE", math.inf)


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[int]]:
    """`killed_at(n)`: the next training ends before its step n (validations count as steps); returns steps done."""
    steps, judge = module._step, module.validation_error

    def arm(place: int | None) -> list[int]:
        done: list[int] = []
        counter: Iterator[int] = count()

        def counted(own: Callable[..., Any]) -> Callable[..., Any]:
            def work(*args: Any, **given: Any) -> Any:
                if next(counter) == place:
                    raise Killed
                found = own(*args, **given)
                done.append(1)
                return found

            return work

        monkeypatch.setattr(module, "_step", counted(steps))
        monkeypatch.setattr(module, "validation_error", counted(judge))
        return done

    return arm


def same(one: Parts, other: Parts) -> bool:
    """The digest covers weights, losses and all facts; what it cost does not enter."""
    return {name: part.digest for name, part in one.items()} == {name: part.digest for name, part in other.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_it_ends_as_if_undisturbed(
    kind: str, make_learner, make_history, compute, tmp_path, free, killed_at
) -> None:
    learner: Learner = make_learner(**{"training": FIT, **KINDS[kind]})
    first, second, *_ = make_history(learner.stream).values()
    before = learner.learn(first, None, compute=compute)
    given: dict[str, Any] = {"earlier": first, "compute": compute}
    steps = killed_at(None)
    wanted = learner.learn(second, before, **given)
    assert len(steps) >= 4
    facts = wanted["backbone"].facts
    assert kind != "best is not last" or facts["best_epoch"] < len(facts["train_loss"])
    for place in range(len(steps)):
        journal = Journal(tmp_path / str(place), every=0)
        killed_at(place)
        with pytest.raises(Killed):
            learner.learn(second, before, **given, record=journal.of(learner.seed))
        torch.manual_seed(place)  # another process has other generators
        rest = killed_at(None)
        assert same(learner.learn(second, before, **given, record=journal.of(learner.seed)), wanted)
        assert len(rest) == len(steps) - place


def test_killed_again_and_again_it_goes_on_from_the_last_state(
    make_learner, make_history, compute, tmp_path, free, killed_at
) -> None:
    learner: Learner = make_learner(backbone={"name": "stid", "layers": 1}, training=FIT)
    data = next(iter(make_history(learner.stream).values()))
    wanted = learner.learn(data, None, compute=compute)
    journal, lives = Journal(tmp_path / "journal", every=0), 0
    while True:
        killed_at(1)
        try:
            parts = learner.learn(data, None, compute=compute, record=journal.of(learner.seed))
            break
        except Killed:
            lives += 1
    assert lives == 5
    assert same(parts, wanted)


def test_a_state_of_some_batches_ago_is_enough(make_learner, make_history, compute, tmp_path, free, killed_at) -> None:
    learner: Learner = make_learner(backbone={"name": "dcrnn", "hidden": 4, "tau": 5}, prompt_pool=None, training=FIT)
    data = next(iter(make_history(learner.stream).values()))
    wanted = learner.learn(data, None, compute=compute)
    journal = Journal(tmp_path / "journal", every=0)
    record = journal.of(learner.seed)
    killed_at(2)
    with pytest.raises(Killed):
        learner.learn(data, None, compute=compute, record=record)
    journal.every = math.inf
    killed_at(3)
    with pytest.raises(Killed):
        learner.learn(data, None, compute=compute, record=journal.of(learner.seed))
    rest = killed_at(None)
    assert same(learner.learn(data, None, compute=compute, record=journal.of(learner.seed)), wanted)
    assert len(rest) > 3


@pytest.fixture
def cut(make_learner, make_history, compute, tmp_path, free, killed_at) -> Callable[..., Any]:
    """`cut()`: a training that was cut off after two steps; the same called again goes on, and returns its log."""
    learner: Learner = make_learner(training=FIT)
    data = next(iter(make_history(learner.stream).values()))

    def go_on(
        place: int | None = None, *, data: PeriodData = data, seed: int = learner.seed
    ) -> tuple[Parts, list[str]]:
        told: list[str] = []
        killed_at(place)
        journal = Journal(tmp_path / "journal", every=0, log=told.append)
        own = replace(learner, seed=seed)
        return own.learn(data, None, compute=compute, record=journal.of(learner.seed)), told

    with pytest.raises(Killed):
        go_on(2)
    go_on.wanted = learner.learn(data, None, compute=compute)  # type: ignore[attr-defined]
    go_on.file = tmp_path / "journal" / f"{learner.seed}.safetensors"  # type: ignore[attr-defined]
    return go_on


def flipped(payload: bytes) -> bytes:
    return payload[:-1] + bytes([payload[-1] ^ 1])


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda payload: payload[: len(payload) // 2],
    "one bit": flipped,
    "of something else": lambda _: save({"a": torch.zeros(2)}),
    "text": lambda _: b"{}" * 100,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_damaged_state_is_left_aside_with_one_line(how: str, cut) -> None:
    cut.file.write_bytes(SPOILED[how](cut.file.read_bytes()))
    parts, told = cut()
    assert same(parts, cut.wanted)
    assert [line for line in told if str(cut.file) in line and "damaged" in line and "ignored and removed" in line]


def test_a_state_of_another_seed_or_code_is_left_aside(cut, monkeypatch) -> None:
    _, told = cut(seed=99)
    assert [line for line in told if "of other seed" in line]
    with pytest.raises(Killed):
        cut(2)
    monkeypatch.setitem(resume.VERSIONS, "model", -1)
    parts, told = cut()
    assert [line for line in told if "of other code" in line]
    assert same(parts, cut.wanted)


def test_a_state_that_began_from_other_weights_is_left_aside(cut, monkeypatch) -> None:
    own = module._start
    monkeypatch.setattr(module, "_start", lambda *given: f"{own(*given)} of another processor")
    parts, told = cut()
    assert [line for line in told if "of other start" in line]
    assert same(parts, cut.wanted)


def test_a_fit_result_is_taken_when_it_was_not_stored(cut, killed_at) -> None:
    parts, _ = cut()
    again, told = cut(0)  # would end at once if it trained
    assert same(again, parts)
    assert [line for line in told if "finished already" in line]


def test_nothing_of_a_training_that_was_quick_is_kept(make_learner, make_history, compute, tmp_path) -> None:
    learner: Learner = make_learner(training=FIT)
    data = next(iter(make_history(learner.stream).values()))
    journal = Journal(tmp_path / "journal", every=3600)
    learner.learn(data, None, compute=compute, record=journal.of(learner.seed))
    assert not (tmp_path / "journal").exists()


def test_a_full_disk_ends_with_a_sentence_and_the_training_goes_on_with_room(cut, monkeypatch) -> None:
    kept = cut.file.read_bytes()

    def full(_: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(InputError, match="No space left on device; what was there before is intact"):
            cut()
    assert cut.file.read_bytes() == kept
    assert [file.name for file in cut.file.parent.iterdir()] == [cut.file.name]
    parts, told = cut()
    assert same(parts, cut.wanted)
    assert [line for line in told if "goes on in epoch 1 after 2 batches" in line]


def test_a_state_cut_between_file_and_rename_leaves_the_one_before(cut, monkeypatch) -> None:
    kept = cut.file.read_bytes()

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", die)
        cut()
    assert cut.file.read_bytes() == kept
    parts, told = cut()
    assert same(parts, cut.wanted)
    assert [line for line in told if "goes on" in line]


def test_a_process_that_was_replaced_writes_no_state(cut, tmp_path) -> None:
    kept = cut.file.read_bytes()

    def refuse() -> None:
        raise InputError("another run has taken over")

    record = Journal(cut.file.parent, every=0, check=refuse).of(int(cut.file.stem))
    record.belong()
    with pytest.raises(InputError, match="taken over"):
        record._write(record.running, {}, {})
    assert cut.file.read_bytes() == kept


def test_a_cleared_journal_leaves_nothing_and_may_be_cleared_twice(cut, tmp_path) -> None:
    journal = Journal(tmp_path / "journal", every=0)
    journal.clear()
    journal.clear()
    assert not (tmp_path / "journal").exists()


def test_seeds_that_were_finished_are_not_trained_again(
    make_stream, make_history, compute, tmp_path, free, killed_at, stored
) -> None:
    stream = make_stream(
        models=[
            {
                "name": "m",
                "backbone": {"name": "stgnn", "hidden": 8},
                "strategy": "online",
                "training": FIT,
                "seeds": [5, 3, 4],
            }
        ]
    )
    network, key = stored(make_history(stream)), stream.calendar.period(0).key
    given: dict[str, Any] = {"network": network, "previous": {}, "compute": compute}
    steps = killed_at(None)
    wanted = update(stream, stream.models[0], key, **given)
    each, total = len(steps) // 3, len(steps)
    for place in range(0, total, 2):
        journal = Journal(tmp_path / str(place), every=0)
        killed_at(place)
        with pytest.raises(Killed):
            update(stream, stream.models[0], key, **given, journal=journal)
        rest = killed_at(None)
        found = update(stream, stream.models[0], key, **given, journal=journal)
        assert len(rest) == total - place, each
        assert {seed: one.digest for seed, one in found["backbone"].items()} == {
            seed: one.digest for seed, one in wanted["backbone"].items()
        }
