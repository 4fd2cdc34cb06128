"""Pieces of a batch that fit a cache, worked on side by side.

Splitting one operation over threads makes the threads wait for each other at every one of its hundreds of operations.
Here each thread takes whole pieces instead. What is added up is added in the order of the pieces, so a result has the
same bits whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")
PIECE_CELLS = 1 << 15  # windows x nodes: their activations stay in a cache on the way forward and back


@dataclass(frozen=True)
class Workers:
    """Threads that each work on whole pieces; none means the caller's own."""

    pool: ThreadPoolExecutor | None = None
    count: int = 1

    def map(self, action: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results in the order of the items."""
        if self.pool is None or len(items) < 2:
            return [action(item) for item in items]
        return list(self.pool.map(action, items))


@contextmanager
def workers(device: torch.device, threads: int, *, splits: bool = True) -> Iterator[Workers]:
    """Workers with one thread each; on a GPU the caller alone, since the GPU is what works.

    Args:
        splits: whether there will be pieces; without them the caller alone works, with all threads in each operation.
    """
    if device.type != "cpu":
        yield Workers()
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1 if splits else threads)
    try:
        if not splits or threads == 1:
            yield Workers()
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(pool, threads)
    finally:
        torch.set_num_threads(before)


def piece_count(windows: int, num_nodes: int) -> int:
    """Into how many pieces a processor cuts a batch: a power of two, so that they are equal and even in number."""
    count = 1
    while windows * num_nodes > count * PIECE_CELLS and count < windows:
        count *= 2
    return count


def pieces_of(starts: Tensor, num_nodes: int, *, most: int | None = None) -> list[Tensor]:
    """Starts of windows (B,) in equal pieces: as many as `piece_count` says on a processor, one on a GPU.

    Args:
        most: windows that memory allows at a time.
    """
    count = piece_count(len(starts), num_nodes) if starts.device.type == "cpu" else 1
    if most is not None:
        count = max(count, -(-len(starts) // most))
    return [piece for piece in starts.tensor_split(count) if len(piece)]
