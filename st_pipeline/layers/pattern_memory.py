"""A bank of learned patterns that is read by attention: the memory of STKEC and PECPM."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError

GAIN = 1.414  # of both public codes


class AttentionLabels(NamedTuple):
    """What the attention of each node should look like."""

    values: Tensor  # (N, M)
    known: Tensor  # (N,) bool: nodes that have a label


class PatternMemory(nn.Module):
    """Patterns (M, width); a representation is answered with a sum of them, weighted by how much each is like it.

    Args:
        patterns: M.
        read: the weights of the sum, x patterns^T as it is (`logits`: STKEC's public code) or its `softmax` (PECPM,
            and STKEC's paper).

    Raises:
        InputError: there is no pattern.
    """

    def __init__(self, patterns: int, width: int, *, read: Literal["logits", "softmax"]) -> None:
        super().__init__()
        if patterns < 1:
            raise InputError(f"a memory of {patterns} patterns was asked for, expected at least 1; raise `patterns`")
        self.read = read
        self.patterns = nn.Parameter(torch.empty(patterns, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.patterns, gain=GAIN)

    def __len__(self) -> int:
        return len(self.patterns)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, width) -> attention (B, N, M) and what is read, (B, N, width)."""
        attention = self.scores(x)
        if self.read == "softmax":
            attention = attention.softmax(-1)
        return attention, _product(attention, self.patterns)

    def scores(self, x: Tensor) -> Tensor:
        """(B, N, width) -> x patterns^T, (B, N, M): the attention before any softmax."""
        return _product(x, self.patterns.t())


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """x @ matrix, without a copy of x where nodes come first in memory."""
    return (x.transpose(0, 1) @ matrix).transpose(0, 1)
