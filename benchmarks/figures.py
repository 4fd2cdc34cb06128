"""What a benchmark hands over: figures beside what was asked of them, and tables and pictures for the document."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch

from st_pipeline.training.compute import peak_bytes, reset_peak

CPU = torch.device("cpu")
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One measured figure; `at_least` or `at_most` is what was asked, None where nothing was."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


@dataclass
class Result:
    """Everything one benchmark found."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    text: str = ""  # Markdown behind the table

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Result:
        document = json.loads(text)
        return cls(document["title"], [Figure(**one) for one in document["figures"]], document["text"])


def seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def best(action: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Least and median seconds of some runs."""
    times = sorted(seconds(action) for _ in range(repeats))
    return times[0], times[repeats // 2]


def memory_mib(*, reset: bool = False) -> float:
    """Peak resident memory of this process, since the last reset."""
    if reset:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        reset_peak(CPU)
    return peak_bytes(CPU) / MIB


def table(header: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def told(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


def use_threads() -> int:
    """Two threads, as every figure here is for two cores."""
    torch.set_num_threads(2)
    return 2
