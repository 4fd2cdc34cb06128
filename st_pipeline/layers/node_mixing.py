"""Mixing of nodes through a few slots, with a row of weights per node: a product of size N x N that can grow."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.layers.node_table import NodeTable


class NodeMixing(nn.Module):
    """U GELU(V^T x), with a row of U (N, r) and a row of logits per node; the columns of V (N, r) are their softmax.

    Each of the r slots is a weighted mean over the nodes, whatever their number: nodes that come or leave change it no
    more than their weights say. (The token mixing of MLP-Mixer, whose weights belong to fixed positions.)

    Args:
        num_nodes: rows at first.
        slots: r.
    """

    def __init__(self, num_nodes: int, slots: int) -> None:
        super().__init__()
        self.gathering = NodeTable(num_nodes, slots, bound=1.0)
        self.spreading = NodeTable(num_nodes, slots, bound=slots**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, F) -> (B, N, F), what is gathered of the network for each node."""
        rows = x.transpose(0, 1)  # (N, B, F), as memory has it
        slots = nn.functional.gelu(self.weights().t() @ rows.flatten(1))  # (r, B * F)
        return (self.spreading() @ slots).view(rows.shape).transpose(0, 1)

    def weights(self) -> Tensor:
        """V (N, r), columns of sum 1."""
        return self.gathering().softmax(0)
