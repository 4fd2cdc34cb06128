"""Memory and processor time of everything that a drill started."""

from __future__ import annotations

import resource
import threading
from typing import Self

import psutil

MIB = 1 << 20


class Memory:
    """Samples the sum of the resident memory of all processes under this one while it is entered."""

    def __init__(self, every: float = 1.0) -> None:
        self.every = every
        self.samples: list[tuple[float, int]] = []  # MiB, processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._used = 0.0

    def __enter__(self) -> Self:
        self._used = -_used()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._used += _used()

    @property
    def peak_mib(self) -> float:
        return max(mib for mib, _ in self.samples)

    def __str__(self) -> str:
        peak = max(self.samples)
        third = max(1, len(self.samples) // 3)
        early, late = (max(part)[0] for part in (self.samples[:third], self.samples[-third:]))
        return (
            f"at most {peak[0]:.0f} MiB in {peak[1]} processes, "
            f"{early:.0f} in the first third, {late:.0f} in the last; "
            f"{len(self.samples)} samples; {self._used:.0f} s of processor time of commands that ended"
        )

    def _sample(self) -> None:
        while True:
            sizes = []
            for process in psutil.Process().children(recursive=True):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            self.samples.append((sum(sizes) / MIB, len(sizes)))
            if self._over.wait(self.every):
                return


def _used() -> float:
    """Seconds of processor time of children that have ended."""
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime
