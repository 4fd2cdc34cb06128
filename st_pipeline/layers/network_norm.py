"""Layer normalisation across the network, with a scale and a shift of each sensor's own."""

from __future__ import annotations

import math

from torch import Tensor, nn

from st_pipeline.layers.node_table import NodeTable


class NetworkNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * (1 + scale) + shift, one mean and variance for all nodes of a window.

    The rows of scale and shift are 0 at first and for new sensors. The statistics are those of the nodes that are
    there, of the whole network or of a part of it.

    Args:
        num_nodes: rows at first.
        axes: (F,) normalises (..., N, F) over its last two axes, (S, F) normalises (..., S, N, F) over its last three,
            with rows for every step.
    """

    def __init__(self, num_nodes: int, *axes: int) -> None:
        super().__init__()
        self.axes = axes
        self.scale, self.shift = (NodeTable(num_nodes, math.prod(axes), bound=0.0) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(..., N, F) or (..., S, N, F), the same out."""
        scale, shift = (table().unflatten(1, self.axes).movedim(0, -2) for table in (self.scale, self.shift))
        return nn.functional.layer_norm(x, scale.shape, 1 + scale, shift)
