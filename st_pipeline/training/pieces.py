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

from st_pipeline.training.ranks import ALONE, Ranks

T = TypeVar("T")
R = TypeVar("R")
PIECE_CELLS = 1 << 15  # windows x nodes: their activations stay in a cache on the way forward and back


@dataclass(frozen=True)
class Workers:
    """Threads that each work on whole pieces; none means the caller's own. Those of all `ranks` make one team."""

    pool: ThreadPoolExecutor | None = None
    count: int = 1
    ranks: Ranks = ALONE

    @property
    def together(self) -> int:
        """Pieces that are worked on at a time."""
        return self.count * self.ranks.size

    def map_tensors(self, action: Callable[[T], Tensor], items: Sequence[T]) -> list[Tensor]:
        """The results, of one shape and type, in the order of the items, of which each process does its share."""
        return self.ranks.gather(self.map(action, self.ranks.share(items)), len(items))

    def map(self, action: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results in the order of the items, all of which this process does."""
        if self.pool is None or len(items) < 2:
            return [action(item) for item in items]
        return list(self.pool.map(action, items))


@contextmanager
def workers(device: torch.device, threads: int, *, splits: bool = True, ranks: Ranks = ALONE) -> Iterator[Workers]:
    """Workers with one thread each; on a GPU the caller alone, since the GPU is what works.

    Args:
        splits: whether there will be pieces; without them the caller alone works, with all threads in each operation.
        ranks: processes that share the pieces.
    """
    ranks = ranks if splits else ALONE
    if device.type != "cpu":
        yield Workers(ranks=ranks)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1 if splits else threads)
    try:
        if not splits or threads == 1:
            yield Workers(ranks=ranks)
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(pool, threads, ranks)
    finally:
        torch.set_num_threads(before)


def piece_count(windows: int, num_nodes: int) -> int:
    """Into how many pieces a processor cuts a batch: a power of two, so that they are equal and even in number."""
    count = 1
    while windows * num_nodes > count * PIECE_CELLS and count < windows:
        count *= 2
    return count


def pieces_of(starts: Tensor, num_nodes: int, *, most: int | None = None, least: int = 1) -> list[Tensor]:
    """Starts of windows (B,) in equal pieces: as many as `piece_count` says on a processor, `least` on a GPU.

    Args:
        most: windows that memory allows at a time.
        least: pieces that a GPU's processes need; on processors their number changes no piece, and so no bit.
    """
    count = piece_count(len(starts), num_nodes) if starts.device.type == "cpu" else least
    if most is not None:
        count = max(count, -(-len(starts) // most))
    return [piece for piece in starts.tensor_split(count) if len(piece)]
