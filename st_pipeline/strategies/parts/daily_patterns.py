"""The daily profiles of sensors, how alike they are, and what they cluster into."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from st_pipeline.data.protocols import Part

ROUNDS = 50  # of clustering at most
TINY = 1e-12  # chance of a first centre that is like another one


class Profiles(NamedTuple):
    """One row per node, one column per slot of the day; on the CPU, in double precision."""

    values: Tensor  # (N, slots), 0 where nothing was seen
    seen: Tensor  # (N, slots) bool

    @property
    def known(self) -> Tensor:
        """(N,) bool: rows of which something was seen."""
        return self.seen.any(1)

    def rows(self, rows: Tensor) -> Profiles:
        return Profiles(self.values[rows], self.seen[rows])

    def unit(self) -> Profiles:
        """With a root mean square of 1 over the slots seen; a row of zeros stays one."""
        mean_square = self.values.square().sum(1) / self.seen.sum(1).clamp(min=1)
        size = torch.where(mean_square > 0, mean_square.sqrt(), 1.0)
        return Profiles(self.values / size[:, None], self.seen)


class Patterns(NamedTuple):
    """Means of the unit profiles that went into each pattern, slot by slot, kept so that more can go in."""

    total: Tensor  # (K, slots): sums of the profiles
    number: Tensor  # (K, slots): how many have seen the slot

    @classmethod
    def of(cls, unit: Profiles) -> Patterns:
        """A pattern for each profile."""
        return cls(unit.values, unit.seen.double())

    @property
    def profiles(self) -> Profiles:
        """The means."""
        return Profiles(self.total / self.number.clamp(min=1), self.number > 0)


def daily_profiles(part: Part, *, steps_per_day: int) -> Profiles:
    """Mean reading of each node (N, slots) by slot of the local day, in the unit of the readings."""
    slot = part.windows.time_of_day
    empty = part.truth.new_zeros(steps_per_day, part.truth.shape[1])
    count = empty.index_add(0, slot, part.scored.to(empty.dtype)).t().cpu().double()
    total = empty.index_add(0, slot, torch.where(part.scored, part.truth, 0.0)).t().cpu().double()
    return Profiles(total / count.clamp(min=1), count > 0)


def similarity(one: Profiles, other: Profiles) -> Tensor:
    """Cosine, the uncentred correlation, over the slots that both have seen: (N, K); 0 where there are none."""
    own = one.values.square() @ other.seen.double().t()
    theirs = one.seen.double() @ other.values.square().t()
    size = (own * theirs).sqrt()
    return torch.where(size > 0, one.values @ other.values.t() / torch.where(size > 0, size, 1.0), 0.0)


def distances(before: Profiles, now: Profiles) -> Tensor:
    """Wasserstein distance (N,) between the values of a node's day before and now, in the unit of the readings.

    The values of a profile are taken as a sample, as PECPM's public code does: a day that is only shifted in time is
    at distance 0. NaN where either side has not seen anything.
    """
    values, order = torch.cat([before.values, now.values], dim=1).sort(dim=1)
    shares = [
        part.seen.double() / part.seen.sum(1, keepdim=True) for part in (before, now)
    ]  # 0 / 0 where nothing was seen
    apart = torch.cat([shares[0], -shares[1]], dim=1).gather(1, order).cumsum(1).abs()  # of the distribution functions
    return (apart[:, :-1] * values.diff(dim=1)).sum(1)


def cluster(profiles: Profiles, count: int, generator: torch.Generator) -> tuple[Patterns, Tensor]:
    """Cosine k-means of the nodes of which something was seen.

    Args:
        count: clusters; fewer where there are not as many nodes.

    Returns:
        The patterns, and the place (N,) among them of each node's own; -1 where nothing was seen.
    """
    rows = profiles.known.nonzero().flatten()
    unit = profiles.unit().rows(rows)
    patterns = Patterns.of(unit.rows(_spread_out(unit, min(count, len(rows)), generator)))
    members = torch.full((len(rows),), -1)
    for _ in range(ROUNDS if len(rows) else 0):
        nearest = similarity(unit, patterns.profiles).argmax(1)
        if torch.equal(nearest, members):
            break
        members = nearest
        filled = torch.bincount(members, minlength=len(patterns.total))[:, None] > 0
        sums = [torch.zeros_like(patterns.total).index_add(0, members, part) for part in Patterns.of(unit)]
        patterns = Patterns(*(torch.where(filled, new, old) for new, old in zip(sums, patterns, strict=True)))
    labels = torch.full((len(profiles.values),), -1)
    labels[rows] = members
    return patterns, labels


def _spread_out(unit: Profiles, count: int, generator: torch.Generator) -> Tensor:
    """Rows to begin with (count,), each drawn by how unlike it is to those before it (k-means++)."""
    chosen = torch.zeros(0, dtype=torch.int64)
    chance = torch.ones(len(unit.values), dtype=torch.float64)
    for _ in range(count):
        drawn = torch.multinomial(chance, 1, generator=generator)
        chosen = torch.cat([chosen, drawn])
        unlike = 1 - similarity(unit, unit.rows(drawn))[:, 0]
        chance = torch.minimum(chance, unlike.clamp(min=TINY))
        chance[chosen] = 0
    return chosen
