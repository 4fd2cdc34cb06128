"""A number for every pair of nodes where the number of nodes changes."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.layers.node_table import NodeTable


class NodePairs(nn.Module):
    """M = L R^T / sqrt(N), (N, N), with a row of L and of R per node: the square table that cannot grow row by row.

    At first the numbers have the variance 1 / N that Xavier's bound gives an (N, N) matrix, however large N becomes.

    Args:
        num_nodes: N at first.
        rank: columns of L and of R.
    """

    def __init__(self, num_nodes: int, rank: int) -> None:
        super().__init__()
        bound = (9 / rank) ** 0.25  # the variance of a sum of `rank` products of two uniform numbers is then 1
        self.left, self.right = (NodeTable(num_nodes, rank, bound=bound) for _ in range(2))

    def forward(self) -> Tensor:
        """M (N, N); inside `restricted`, of the nodes that are shown."""
        left, right = self._factors()
        return left @ right.t()

    def mix(self, x: Tensor) -> Tensor:
        """x M^T, (..., N) -> (..., N): what M makes of the last axis, without M."""
        left, right = self._factors()
        return x @ right @ left.t()

    def _factors(self) -> tuple[Tensor, Tensor]:
        left, right = self.left(), self.right()
        return left, right / max(1, len(left)) ** 0.5
