"""Representations with and without steps, (B, S, N, F) and (B, N, F), as one row of features per node and back."""

from __future__ import annotations

import math

from torch import Tensor


def flat(x: Tensor) -> Tensor:
    """(B, S, N, F) -> (B, N, S * F), step by step; (B, N, F) is left as it is."""
    return x if x.dim() == 3 else x.transpose(1, 2).flatten(2)


def unflat(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """(B, N, S * F) -> (B, S, N, F) for axes (S, F); for axes (F,) it is left as it is."""
    return x if len(axes) == 1 else x.unflatten(-1, axes).transpose(1, 2)


def flat_width(axes: tuple[int, ...]) -> int:
    """Features of a node: S * F or F."""
    return math.prod(axes)
