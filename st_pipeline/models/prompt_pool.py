"""Node prompts: low-rank ones (EAC, ICLR 2025, Section 4), or a full table without factors as their control."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_table import NodeTable
from st_pipeline.models.base import Forecaster
from st_pipeline.models.wrapper import Wrapper
from st_pipeline.types import Graph, Window

BOUND = 0.1  # all prompt parameters start uniform in [-0.1, 0.1], as in the public code
WATCHED_AT = 6  # the singular value whose share EAC's Figure 4 follows through training


class PromptTable(nn.Module):
    """P (N, width): A B with a row of A (N, k) per sensor and a shared B (k, width), or P itself a row per sensor.

    Args:
        rank: k; None for a full table, which is a plain embedding of the nodes.
    """

    basis: nn.Parameter | None

    def __init__(self, num_nodes: int, rank: int | None, width: int) -> None:
        super().__init__()
        self.nodes = NodeTable(num_nodes, width if rank is None else rank, bound=BOUND)
        self.basis = None if rank is None else nn.Parameter(torch.empty(rank, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The basis drawn anew; `Forecaster.reset` reaches the rows of sensors on its own."""
        if self.basis is not None:
            nn.init.uniform_(self.basis, -BOUND, BOUND)

    def forward(self) -> Tensor:
        """(N, width)."""
        return self._of(self.nodes())

    def table(self) -> Tensor:
        """(N, width), the prompts of all nodes also while a training sees only some of them."""
        return self._of(self.nodes.table())

    def _of(self, rows: Tensor) -> Tensor:
        return rows if self.basis is None else rows @ self.basis


class PromptPool(Wrapper):
    """Adds a prompt per node to the embedding of a backbone: for `stgnn`, EAC's X + P.

    Args:
        inner: the forecaster that is prompted; its core still sees the un-prompted window.
        rank: k; None for a full table of prompts, without factors.
    """

    def __init__(self, inner: Forecaster, *, rank: int | None) -> None:
        super().__init__(inner)
        self.prompts = PromptTable(inner.shape.num_nodes, rank, inner.width)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        return super().embed(window, graph) + self.prompts()

    def forward(self, window: Window, graph: Graph) -> Tensor:
        return self.inner.prompted(self.prompts(), window, graph)

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        return self.inner.prompted(self.prompts() + prompt, window, graph)

    def parts(self) -> dict[str, nn.Module]:
        return {**super().parts(), "prompt_pool": self.prompts}

    def watched(self) -> dict[str, float]:
        """`deviation`, what the prompts add to D under Proposition 1, and `share_6` of their spectrum.

        A pool of rank 6 or less has all of its spectrum there; of larger ones and full tables the share tells more.
        """
        prompts = self.prompts.table().detach().cpu().double()
        shares = cumulative_shares(torch.linalg.svdvals(prompts))
        own = {"deviation": float(deviation(prompts)), "share_6": float(shares[:WATCHED_AT][-1])}
        return {**super().watched(), **own}


def deviation(x: Tensor) -> Tensor:
    """Average node deviation D(X) = (1 / n^2) sum_ij ||x_i - x_j||^2: (..., n, d) -> (...), in double precision.

    It is 2 (mean ||x_i||^2 - ||mean x_i||^2), taken from centred rows, so that a common shift costs no digits. EAC's
    definition divides by n^2 and the proof of its Proposition 1 by n; this is the definition.
    """
    rows = x.double()
    return 2 * (rows - rows.mean(-2, keepdim=True)).square().sum(-1).mean(-1)


def cumulative_shares(singular_values: Tensor) -> Tensor:
    """Cumulative sums of descending singular values over their total, (m,): the last is 1; NaN if all are 0."""
    sums = singular_values.cumsum(0)
    return sums / sums[-1:]
