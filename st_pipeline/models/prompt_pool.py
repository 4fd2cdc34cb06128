"""Low-rank node prompts (EAC, ICLR 2025, Section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_table import NodeTable
from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, Window

BOUND = 0.1  # both factors start uniform in [-0.1, 0.1], as in the public code


class PromptTable(nn.Module):
    """P = A B: A (N, k) has a row per sensor, B (k, width) is shared."""

    def __init__(self, num_nodes: int, rank: int, width: int) -> None:
        super().__init__()
        self.nodes = NodeTable(num_nodes, rank, bound=BOUND)
        self.basis = nn.Parameter(torch.empty(rank, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both factors drawn anew; `Forecaster.reset` reaches the rows of A on its own as well."""
        nn.init.uniform_(self.basis, -BOUND, BOUND)

    def forward(self) -> Tensor:
        """(N, width)."""
        return self.nodes() @ self.basis


class PromptPool(Forecaster):
    """Adds a prompt per node to the embedding of a backbone: for `stgnn`, EAC's X + P.

    Args:
        inner: the forecaster that is prompted; its core still sees the un-prompted window.
        rank: k.
    """

    def __init__(self, inner: Forecaster, *, rank: int) -> None:
        super().__init__()
        self.inner = inner
        self.shape = inner.shape
        self.separable = inner.separable
        self.prompts = PromptTable(inner.shape.num_nodes, rank, inner.width)

    @property
    def width(self) -> int:
        return self.inner.width

    @property
    def working_width(self) -> int:
        return self.inner.working_width

    def embed(self, window: Window, graph: Graph) -> Tensor:
        return self.inner.embed(window, graph) + self.prompts()

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        return self.inner.core(hidden, window, graph)

    def head(self, hidden: Tensor) -> Tensor:
        return self.inner.head(hidden)

    def forward(self, window: Window, graph: Graph) -> Tensor:
        return self.inner.prompted(self.prompts(), window, graph)

    def parts(self) -> dict[str, nn.Module]:
        return {**self.inner.parts(), "prompt_pool": self.prompts}
