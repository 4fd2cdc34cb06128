"""Processes that train one model together: each works on its share of the pieces, and all get what all have found.

What they exchange is added up by each of them in the order of the pieces, as one process adds it, so a result does not
depend on which process worked on which piece. The transport is `torch.distributed`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from st_pipeline.errors import InputError

if TYPE_CHECKING:
    from st_pipeline.training.compute import Compute

T = TypeVar("T")


class Deserted(InputError):
    """Another of the processes has gone."""


@dataclass(frozen=True)
class Ranks:
    """Where this process stands among those that train together; alone unless said otherwise."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, keeps states and hands over the result."""
        return self.rank == 0

    @property
    def notes(self) -> list[str]:
        """What a result's cost says of them."""
        return [f"{self.size} processes"] if self.size > 1 else []

    def share(self, items: Sequence[T]) -> list[T]:
        """The items of this process: every `size`-th, and the last one again where others have one more.

        Args:
            items: at least one.
        """
        slots = range(-(-len(items) // self.size))
        return [items[min(slot * self.size + self.rank, len(items) - 1)] for slot in slots]

    def gather(self, own: Sequence[Tensor], count: int) -> list[Tensor]:
        """What all processes made of their shares of `count` items, in the order of the items.

        Args:
            own: of one shape and type, in all processes.

        Raises:
            Deserted: another process has gone.
        """
        if self.size == 1:
            return list(own)
        mine = torch.stack(list(own))
        found = [torch.empty_like(mine) for _ in range(self.size)]
        try:
            dist.all_gather(found, mine)
        except RuntimeError as error:
            raise Deserted(f"a process that trained with this one has gone: {str(error).splitlines()[0]}") from None
        return [found[item % self.size][item // self.size] for item in range(count)]

    def agree(self, what: str, text: str, device: torch.device) -> None:
        """Refuse to train with processes that begin from something else.

        Raises:
            InputError: they do.
        """
        mine = torch.tensor(list(blake2b(text.encode(), digest_size=16).digest()), device=device)
        others = self.gather([mine], self.size) if self.size > 1 else []
        if differing := [rank for rank, other in enumerate(others) if not torch.equal(other, mine)]:
            raise InputError(
                f"processes {self.rank} and {differing[0]} of a training differ in {what}; give them the same "
                "processors or devices, or train with ST_PIPELINE_PROCESSES=1"
            )


ALONE = Ranks()


@contextmanager
def joined(compute: Compute, *, meeting: str = "env://") -> Iterator[Compute]:
    """The limits of this process among those that `torchrun` started, which are connected inside.

    CUDA devices are joined by NCCL, each process with the device of its local rank; processors by Gloo.

    Args:
        compute: of the training as a whole; its threads and, on processors, its memory are shared out.
        meeting: where the processes find each other, as torch's `init_method`.

    Raises:
        InputError: there are fewer devices than processes.
    """
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    own = share_of(compute, local=local, here=here)
    cuda = own.device != "cpu"
    if cuda:
        torch.cuda.set_device(own.device)
    elif here == size and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody else need hear them
    dist.init_process_group("nccl" if cuda else "gloo", init_method=meeting, rank=rank, world_size=size)
    try:
        yield replace(own, ranks=Ranks(rank, size))
    finally:
        dist.destroy_process_group()


def share_of(compute: Compute, *, local: int, here: int) -> Compute:
    """The limits of one of the processes of this machine.

    Args:
        local: which one.
        here: how many there are.

    Raises:
        InputError: one device is named for all, or there are fewer devices than processes.
    """
    if ":" in compute.device:
        raise InputError(
            f"device {compute.device} is one, and {here} processes were asked for; expected auto, cpu or cuda"
        )
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = compute.device == "cuda" or (compute.device == "auto" and devices > 0)
    if cuda and devices < here:
        raise InputError(
            f"{here} processes were asked for and there are {devices} CUDA devices here; set ST_PIPELINE_PROCESSES to "
            f"{max(1, devices)}, or ST_PIPELINE_DEVICE to cpu"
        )
    device = f"cuda:{local}" if cuda else "cpu"
    threads = max(1, compute.threads // here)
    memory = compute.memory_gib if cuda or compute.memory_gib is None else compute.memory_gib / here
    return replace(
        compute, device=device, threads=threads, memory_gib=memory, processes=1, fallback="fail", neighbours=here
    )
