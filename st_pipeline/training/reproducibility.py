"""Seeds that do not depend on what ran before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def derive_seed(seed: int, *names: str) -> int:
    """A seed of its own for everything that is named differently, the same in every process."""
    text = "/".join([str(seed), *names]).encode()
    return int.from_bytes(blake2b(text, digest_size=7).digest(), "big")


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Inside, parameters are drawn from this seed; outside, torch's generators are as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)
