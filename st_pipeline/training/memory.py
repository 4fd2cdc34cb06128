"""How much memory a training needs, and how many windows at a time the memory there is allows."""

from __future__ import annotations

from dataclasses import dataclass

from st_pipeline.errors import InputError
from st_pipeline.training.pieces import piece_count
from st_pipeline.training.ranks import ALONE, Ranks

GIB = 1 << 30
RESIDENT_COPIES = 6  # of a period's arrays, while they are standardised and summed in double precision
WORKING_COPIES = 10  # activations kept per cell and hidden unit, forward and backward


@dataclass(frozen=True)
class Need:
    """Bytes that a training keeps, and bytes that each window of a batch takes while it is worked on.

    Attributes:
        batch: windows of a batch.
        nodes: N.
        divisible: whether a batch may be worked on in pieces.
    """

    resident: int
    per_window: int
    batch: int
    nodes: int
    divisible: bool = True

    @classmethod
    def of(
        cls, *, length: int, nodes: int, channels: int, width: int, span: int, batch: int, divisible: bool = True
    ) -> Need:
        """For L steps of N nodes and C channels (lags counted), an embedding of `width`, and T + H steps a window."""
        resident = length * nodes * (4 * RESIDENT_COPIES + 5 * channels)
        return cls(resident, 4 * WORKING_COPIES * nodes * (span * channels + width), batch, nodes, divisible)

    @property
    def least(self) -> int:
        """Bytes without which the training cannot run: one window at a time, or the batch that cannot be split."""
        return self.resident + self.per_window * (1 if self.divisible else self.batch)

    def plan(self, allowed: int, *, threads: int, gpu: bool) -> Plan:
        """The work cut so that it fits.

        Raises:
            InputError: not even one window fits.
        """
        free = allowed - self.resident
        if free < self.per_window * (1 if self.divisible else self.batch):
            raise InputError(f"needs about {self.least / GIB:.2f} GiB and there are {allowed / GIB:.2f} GiB to give")
        if not self.divisible:
            return Plan(self.batch, 1 if gpu else threads, self.least, divided=False)
        usual = self.batch if gpu else -(-self.batch // piece_count(self.batch, self.nodes))
        windows = min(usual, free // self.per_window)  # the same whatever the threads, and so is the result
        threads = 1 if gpu else min(threads, free // (self.per_window * windows))
        return Plan(windows, threads, self.resident + self.per_window * windows * threads)


@dataclass(frozen=True)
class Plan:
    """Windows at a time on each of some threads, and the bytes this takes in all.

    Where batches are not `divided`, all threads work on the same windows. The pieces are those of all `ranks` together.
    """

    windows: int
    threads: int
    bytes: int
    divided: bool = True
    ranks: Ranks = ALONE

    def __str__(self) -> str:
        on_each = f" on each of {self.threads} threads" if self.divided and self.threads > 1 else ""
        on_each += f" of each of {self.ranks.size} processes" if self.ranks.size > 1 else ""
        at_once = f"{self.windows} windows at a time{on_each}"
        return f"about {self.bytes / GIB:.2f} GiB, {at_once}"
