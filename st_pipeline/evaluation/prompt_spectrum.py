"""The spectrum of node prompts, and the rank that it says a pool needs (EAC, ICLR 2025, Proposition 2, Figure 4).

Shapes: n nodes, d columns of the embedding that prompts are added to, m = min(n, d). All in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.models.prompt_pool import cumulative_shares

NOISE = 1e-6  # of a share: what single precision leaves behind the last singular value of a product A B


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values (m,) in descending order and their normalised cumulative sums (m,), which end at 1.

    `effective_rank` is exp of the entropy of the normalised singular values (Roy and Vetterli 2007), from 1 to m.
    Where all singular values are 0 there are no shares, and both are NaN.
    """

    singular_values: Tensor
    shares: Tensor
    effective_rank: float

    @classmethod
    def of(cls, singular_values: Tensor) -> Self:
        """The spectrum that these singular values, in any order, make.

        Raises:
            InputError: they are none, or not all finite and at least 0.
        """
        values = singular_values.detach().double().flatten()
        if not len(values) or not values.isfinite().all() or values.min() < 0:
            raise InputError("the singular values are not finite numbers of at least 0; give those of trained prompts")
        values = values.sort(descending=True).values
        entropy = torch.special.entr(values / values.sum()).sum()
        return cls(values, cumulative_shares(values), float(entropy.exp()))

    def share_at(self, k: int) -> float:
        """Share of the k largest singular values; 1 from m on."""
        if k < 1:
            raise InputError(f"there is no share at singular value {k}; they are counted from 1")
        return float(self.shares[:k][-1])


def spectrum(prompts: Tensor) -> Spectrum:
    """The spectrum of prompts (n, d), as in EAC's Figure 4.

    Raises:
        InputError: there are none, or they are not finite.
    """
    if prompts.dim() != 2 or not prompts.numel() or not prompts.isfinite().all():
        raise InputError(f"prompts {tuple(prompts.shape)} are no table of finite numbers; expected (nodes, columns)")
    return Spectrum.of(torch.linalg.svdvals(prompts.detach().cpu().double()))


class Projection(NamedTuple):
    """A coming network and the size of its pool at the present and at the advised rank."""

    nodes: int
    parameters_now: int
    parameters: int


@dataclass(frozen=True)
class RankAdvice:
    """Which rank a pool needs.

    Attributes:
        rank: the smallest k whose share reaches the target.
        share: the share at it.
        target: the share asked for.
        bound: of the Johnson-Lindenstrauss form, for information.
        rank_now: k; None of a full table.
        parameters_now, parameters: size of the pool at the present and at the advised rank.
        projected: the same for the next periods, if the network grows as it has on average.
    """

    rank: int
    share: float
    target: float
    bound: int
    rank_now: int | None
    parameters_now: int
    parameters: int
    projected: tuple[Projection, ...]

    @property
    def sentence(self) -> str:
        """The advice for a person."""
        now = "a full table" if self.rank_now is None else f"rank {self.rank_now}"
        reached = f"{100 * self.share:.0f} % of the sum of the prompts' singular values"
        coming = self.projected[-1] if self.projected else None
        ahead = f"{len(self.projected)} period{'s' * (len(self.projected) > 1)}"
        later = f"; in {ahead}, with {coming.nodes:,} nodes, " if coming else ""
        if coming and self.worthwhile:
            later += f"{coming.parameters:,} instead of {coming.parameters_now:,}"
        elif coming:
            later += f"it takes {coming.parameters_now:,} parameters"
        if self.worthwhile:
            found = f"{self.parameters:,} parameters instead of {self.parameters_now:,}"
            return f"Rank {self.rank} keeps {reached}: {found}, which {now} takes{later}."
        if self.rank_now is None:
            return f"Keep {now}: rank {self.rank}, which has {reached}, takes no fewer parameters{later}."
        why = f"a smaller one misses {100 * self.target:g} % of the sum of the prompts' singular values"
        return f"Keep {now}: {why}, and whether a larger one would help cannot be seen from this pool{later}."

    @property
    def worthwhile(self) -> bool:
        """Whether the advised rank makes the pool smaller."""
        return self.parameters < self.parameters_now


def pool_size(num_nodes: int, width: int, rank: int | None) -> int:
    """Parameters of a pool: k (n + d), or n d of a full table."""
    return num_nodes * width if rank is None else rank * (num_nodes + width)


def advise_rank(
    prompts: Tensor,
    *,
    num_nodes: int | Sequence[int],
    width: int,
    rank: int | None,
    share: float = 0.9,
    eps: float = 0.5,
    ahead: int = 3,
) -> RankAdvice:
    """The smallest rank that holds a share of the spectrum, and what it costs.

    The bound is ceil(4 ln(min(n, d)) / eps^2), the logarithmic form that EAC's Proposition 2 rests on, at most d.

    Args:
        prompts: (n, d), or their singular values (m,).
        num_nodes: of every period so far, the newest last; a single number where nothing is known of the growth.
        rank: of the pool that the prompts are from; None of a full table.
        share: target, above 0 and at most 1.
        eps: distortion of the Johnson-Lindenstrauss lemma, between 0 and 1.
        ahead: periods that the size is projected for.

    Raises:
        InputError: an argument is out of its range, or the prompts are all 0.
    """
    counts = [num_nodes] if isinstance(num_nodes, int) else list(num_nodes)
    if not 0 < share <= 1 or not 0 < eps < 1:
        raise InputError(f"share is {share} and eps {eps}; expected a share above 0 and at most 1, and eps inside 0..1")
    if not counts or min(counts) < 1 or width < 1:
        raise InputError(f"num_nodes is {num_nodes} and width {width}; expected at least one node and one column")
    found = Spectrum.of(prompts) if prompts.dim() == 1 else spectrum(prompts)
    if not found.singular_values[0]:
        raise InputError("the prompts are all 0, which says nothing of the rank they need; train them first")
    advised = int((found.shares < share - NOISE).sum()) + 1
    bound = math.ceil(4 * math.log(min(counts[-1], width)) / eps**2)
    growth = (counts[-1] - counts[0]) / max(1, len(counts) - 1)
    coming = [max(0, round(counts[-1] + growth * step)) for step in range(1, ahead + 1)]
    return RankAdvice(
        rank=advised,
        share=found.share_at(advised),
        target=share,
        bound=min(max(1, bound), width),
        rank_now=rank,
        parameters_now=pool_size(counts[-1], width, rank),
        parameters=pool_size(counts[-1], width, advised),
        projected=tuple(Projection(n, pool_size(n, width, rank), pool_size(n, width, advised)) for n in coming),
    )
