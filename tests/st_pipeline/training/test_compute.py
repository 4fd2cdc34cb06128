"""The compute guard decides before anything is built, says why in one sentence, and leaves torch as it found it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from st_pipeline.errors import InputError
from st_pipeline.training import compute as module
from st_pipeline.training.compute import GIB, Compute

SETTINGS = ("DEVICE", "FALLBACK", "THREADS", "MEMORY_GIB", "SAVE_EVERY", "PROCESSES")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in SETTINGS:
        monkeypatch.delenv(f"ST_PIPELINE_{name}", raising=False)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"device": "gpu"}, "device is 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:"}, "device is 'cuda:'"),
        ({"device": "CPU"}, "device is 'CPU'"),
        ({"fallback": "gpu"}, "fallback is 'gpu'; expected fail or cpu"),
        ({"threads": 0}, "threads is 0; expected at least 1"),
        ({"processes": 0}, "processes is 0; expected at least 1"),
        ({"memory_gib": 0.0}, "memory_gib is 0.0; expected a number above 0"),
        ({"memory_gib": -2.0}, "memory_gib is -2.0"),
        ({"memory_gib": math.nan}, "memory_gib is nan"),
        ({"memory_gib": math.inf}, "memory_gib is inf"),
    ],
)
def test_bad_settings_are_told(settings, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Compute(**settings)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("DEVICE", "tpu", "ST_PIPELINE_DEVICE"),
        ("FALLBACK", "maybe", "ST_PIPELINE_FALLBACK"),
        ("THREADS", "two", "ST_PIPELINE_THREADS is 'two'; expected a whole number"),
        ("PROCESSES", "two", "ST_PIPELINE_PROCESSES is 'two'; expected a whole number"),
        ("THREADS", "1.5", "ST_PIPELINE_THREADS is '1.5'; expected a whole number"),
        ("THREADS", "-1", "expected at least 1"),
        ("MEMORY_GIB", "4GB", "ST_PIPELINE_MEMORY_GIB is '4GB'; expected a number"),
        ("MEMORY_GIB", "nan", "ST_PIPELINE_MEMORY_GIB"),
        ("SAVE_EVERY", "often", "ST_PIPELINE_SAVE_EVERY is 'often'; expected a number"),
        ("SAVE_EVERY", "-1", "expected seconds, 0 or more"),
        ("SAVE_EVERY", "nan", "expected seconds, 0 or more"),
    ],
)
def test_bad_environment_variables_are_told_by_name(monkeypatch, name: str, text: str, problem: str) -> None:
    monkeypatch.setenv(f"ST_PIPELINE_{name}", text)
    with pytest.raises(InputError, match=problem):
        Compute.from_environment()


def test_settings_come_from_the_environment(monkeypatch) -> None:
    assert Compute.from_environment() == Compute()
    for name, text in zip(SETTINGS, ("cpu", "cpu", "3", "1.5", "7", "2"), strict=True):
        monkeypatch.setenv(f"ST_PIPELINE_{name}", text)
    assert Compute.from_environment() == Compute("cpu", "cpu", 3, memory_gib=1.5, save_every=7, processes=2)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_missing_device_fails_with_a_sentence_or_falls_back_and_says_so(no_cuda, device: str) -> None:
    sentence = f"roadnet/eac: device {device} was asked for and there are 0 CUDA devices here"
    with pytest.raises(InputError, match=sentence), Compute(device=device).guard(1, "roadnet/eac"):
        pytest.fail("the step ran")
    with Compute(device=device, fallback="cpu").guard(1, "roadnet/eac") as usage:
        assert usage.device.type == "cpu"
    assert usage.notes == [f"{sentence}; fell back to the CPU"]


def test_auto_takes_the_cpu_where_there_is_nothing_else(no_cuda) -> None:
    with Compute().guard(1, "x") as usage:
        assert usage.device == torch.device("cpu")
    assert usage.notes == []


@pytest.mark.parametrize("fallback", ["fail", "cpu"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_step_too_large_for_the_budget_does_not_run(no_cuda, fallback: str, device: str) -> None:
    compute = Compute(device=device, fallback=fallback, memory_gib=0.5)
    with pytest.raises(InputError) as caught, compute.guard(GIB, "roadnet/eac of 2024"):
        pytest.fail("the step ran")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert (device == "cuda" and fallback == "fail") or "needs about 1.00 GiB and cpu has 0.50 GiB to give" in sentence
    with Compute(device="cpu", memory_gib=0.5).guard(GIB // 2, "x"):
        pass


def test_a_step_larger_than_the_machine_does_not_run() -> None:
    with pytest.raises(InputError, match="needs about"), Compute(device="cpu").guard(1 << 60, "x"):
        pytest.fail("the step ran")


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_threads_and_determinism_hold_inside_and_are_restored(deterministic: bool, fails: bool) -> None:
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = (torch.get_num_threads(), torch.get_deterministic_debug_mode())
    compute = Compute(device="cpu", threads=1, deterministic=deterministic)
    try:
        with compute.guard(1, "x"):
            assert torch.get_num_threads() == 1
            assert torch.are_deterministic_algorithms_enabled() == deterministic
            if fails:
                raise KeyError("broken")
    except KeyError:
        assert fails
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == before


def test_a_refused_step_changes_nothing() -> None:
    before = (torch.get_num_threads(), torch.get_deterministic_debug_mode())
    with pytest.raises(InputError), Compute(device="cpu", threads=7).guard(1 << 60, "x"):
        pass
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == before


def test_the_peak_is_that_of_the_step(tmp_path) -> None:
    peaks = []
    for size in (1, 1 << 27, 1):
        with Compute(device="cpu").guard(1, "x") as usage:
            assert usage.peak_bytes == 0
            torch.ones(size, dtype=torch.int8)
        peaks.append(usage.peak_bytes)
    assert min(peaks) > 0
    if (module.PROC / "clear_refs").exists():
        assert peaks[1] > peaks[0] + (1 << 26)
        assert peaks[1] > peaks[2] + (1 << 26)


def test_without_a_process_file_system_the_current_size_is_recorded(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(module, "PROC", tmp_path)
    with Compute(device="cpu").guard(1, "x") as usage:
        pass
    assert usage.peak_bytes > 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.cuda.OutOfMemoryError()]
)
def test_running_out_of_memory_is_told_in_one_sentence(error: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"x: cpu ran out of memory; lower training.batch"),
        Compute(device="cpu").guard(1, "x"),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), InputError("too short"), KeyboardInterrupt()])
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, Compute(device="cpu").guard(1, "x"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(("given", "expected"), [(None, "10000"), ("7", "7")])
def test_waiting_threads_give_way_unless_told_otherwise(given: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    program = "import sys, os, st_pipeline; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | ({"GOMP_SPINCOUNT": given} if given else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [expected, "False"]
