"""Where training runs: device, threads, determinism, memory; checked before a model is built."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from st_pipeline.errors import InputError
from st_pipeline.training.ranks import ALONE, Ranks

GIB = 1 << 30
RESERVE = 0.9  # share of the free memory that a training step may count on
PROC = Path("/proc/self")


@dataclass
class Usage:
    """What a guarded step used; `peak_bytes` is filled in when the step ends."""

    device: torch.device
    allowed_bytes: int = 0
    peak_bytes: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Compute:
    """The device a step may use and the limits it must keep.

    Args:
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:N`.
        fallback: what to do when that device is missing or too full: `cpu`, or `fail` with one sentence.
        threads: CPU threads that work on pieces of a batch side by side; where batches are
            cut, which a model may forbid, results are the same whatever the number.
        deterministic: refuse operations without a deterministic implementation.
        memory_gib: upper limit of the estimate, beside what is free.
        save_every: seconds between two states of a training, from which it goes on when it was cut off.
        processes: that train a model together, on processors with a share of the threads each, else each on a GPU.
        ranks: where this process stands among them.
        neighbours: how many of them share this machine's memory.
    """

    device: str = "auto"
    fallback: str = "fail"
    threads: int = min(4, os.cpu_count() or 1)
    deterministic: bool = True
    memory_gib: float | None = None
    save_every: float = 30.0
    processes: int = 1
    ranks: Ranks = ALONE
    neighbours: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise InputError(f"device is {self.device!r}; expected auto, cpu, cuda or cuda:N (ST_PIPELINE_DEVICE)")
        if self.fallback not in {"fail", "cpu"}:
            raise InputError(f"fallback is {self.fallback!r}; expected fail or cpu (ST_PIPELINE_FALLBACK)")
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}; expected at least 1 (ST_PIPELINE_THREADS)")
        if self.memory_gib is not None and not 0 < self.memory_gib < math.inf:
            raise InputError(f"memory_gib is {self.memory_gib}; expected a number above 0 (ST_PIPELINE_MEMORY_GIB)")
        if self.processes < 1:
            raise InputError(f"processes is {self.processes}; expected at least 1 (ST_PIPELINE_PROCESSES)")
        if not self.save_every >= 0:
            raise InputError(f"save_every is {self.save_every}; expected seconds, 0 or more (ST_PIPELINE_SAVE_EVERY)")

    @classmethod
    def from_environment(cls) -> Compute:
        """`ST_PIPELINE_DEVICE`, `_FALLBACK`, `_THREADS`, `_MEMORY_GIB`, `_SAVE_EVERY` and `_PROCESSES`.

        Raises:
            InputError: a value cannot be read.
        """
        given: dict[str, object] = {}
        kinds = {"device": str, "fallback": str, "threads": int, "memory_gib": float, "save_every": float}
        kinds |= {"processes": int}
        for name, kind in kinds.items():
            variable = f"ST_PIPELINE_{name.upper()}"
            if text := os.environ.get(variable):
                try:
                    given[name] = kind(text)
                except ValueError:
                    expected = "a whole number" if kind is int else "a number"
                    raise InputError(f"{variable} is {text!r}; expected {expected}") from None
        return cls(**given)  # type: ignore[arg-type]

    @contextmanager
    def guard(self, needed: int, purpose: str) -> Iterator[Usage]:
        """Run a step on the device if it is there and has `needed` bytes free; records the peak.

        Raises:
            InputError: it is missing or too full, and there is no fallback.
        """
        usage = self.choose(needed, purpose)
        threads = torch.get_num_threads()
        deterministic = torch.get_deterministic_debug_mode()
        torch.set_num_threads(1)  # what is added up does not depend on how many there are; `pieces.workers` uses them
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(self.deterministic)
        memory: Any = torch.utils.deterministic
        filling, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False  # a cost without a use here
        reset_peak(usage.device)
        try:
            yield usage
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            raise InputError(
                f"{purpose}: {usage.device} ran out of memory; lower training.batch or use a larger device"
            ) from None
        finally:
            usage.peak_bytes = peak_bytes(usage.device)
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(deterministic)
            memory.fill_uninitialized_memory = filling

    def choose(self, needed: int, purpose: str) -> Usage:
        """The device that a step may use, and notes on how it was chosen.

        Raises:
            InputError: it is missing or too full, and there is no fallback.
        """
        notes: list[str] = []
        wanted = self.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if problem := self._problem(torch.device(wanted), needed, purpose):
            if self.fallback == "fail" or wanted == "cpu":
                raise InputError(problem)
            notes.append(f"{problem}; fell back to the CPU")
            if problem := self._problem(torch.device("cpu"), needed, purpose):
                raise InputError(problem)
            wanted = "cpu"
        device = torch.device(wanted)
        return Usage(device, self._allowed(device)[0], notes=notes)

    def _problem(self, device: torch.device, needed: int, purpose: str) -> str | None:
        if device.type == "cuda":
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if (device.index or 0) >= count:
                return f"{purpose}: device {device} was asked for and there are {count} CUDA devices here"
        allowed, free = self._allowed(device)
        if needed > allowed:
            return (
                f"{purpose}: needs about {needed / GIB:.2f} GiB and {device} has {free / GIB:.2f} GiB to give; "
                "free some, lower training.batch, or raise ST_PIPELINE_MEMORY_GIB"
            )
        return None

    def _available(self) -> int:
        return int(psutil.virtual_memory().available // self.neighbours)

    def _allowed(self, device: torch.device) -> tuple[int, int]:
        """Bytes that a step may count on, and those it is told are free."""
        free = int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else self._available())
        limit = free if self.memory_gib is None else int(self.memory_gib * GIB)
        return (limit, limit) if limit < free * RESERVE else (int(free * RESERVE), free)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def reset_peak(device: torch.device) -> None:
    """Let `peak_bytes` count from here on, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (clear := PROC / "clear_refs").exists():
        try:
            clear.write_text("5")  # resets the high-water mark of resident memory on Linux
        except OSError:
            return


def peak_bytes(device: torch.device) -> int:
    """Peak memory since the last reset; on systems without a resettable mark, the process's current size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if (status := PROC / "status").exists() and (match := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(match[1]) * 1024
    return int(psutil.Process().memory_info().rss)
