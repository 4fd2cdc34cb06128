"""Normalisation along time and across nodes (ST-Norm, KDD 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_record import NodeRecord
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.types import NodeSet

MOMENTUM = 0.1  # of running statistics
EPSILON = 1e-5


class TemporalNorm(nn.Module):
    """Each feature of each node over the windows and steps of a batch, with a gain and a shift of its own.

    What it takes away is what a node has for long: its level and its spread. As batch normalisation does, it keeps
    running statistics in training and normalises with them otherwise.
    """

    def __init__(self, num_nodes: int, width: int) -> None:
        super().__init__()
        self.affine = NodeTable(num_nodes, 2 * width, bound=0.0)  # gain - 1 and shift
        self.statistics = RunningStatistics(num_nodes, 2 * width)  # mean and variance - 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, width) -> the same."""
        mean, variance = self.statistics.flat()
        gain, shift = (part.flatten() for part in self.affine().chunk(2, dim=-1))
        rows = x.flatten(2).flatten(0, 1)  # (B * T, N * width): to torch, a feature of a node is a channel
        out = nn.functional.batch_norm(rows, mean, variance, 1 + gain, shift, self.training, MOMENTUM, EPSILON)
        if self.training:
            self.statistics.follow(mean, variance)
        return out.view(x.shape)


class SpatialNorm(nn.Module):
    """Each feature over the nodes of one step, with a gain and a shift that all nodes share.

    What it takes away is what all nodes have in common at a time. The variance is that of the nodes there are, so that
    a single node has one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width))
        self.shift = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, width) -> the same."""
        each = nn.functional.layer_norm(x.transpose(2, 3), x.shape[2:3], eps=EPSILON)  # (B, T, width, N)
        return each.transpose(2, 3) * self.gain + self.shift


class RunningStatistics(NodeRecord):
    """Mean and variance - 1 of the features of each node, side by side.

    A new node begins with the mean of those known, so that a network frozen before it came has statistics for it.
    """

    def flat(self) -> tuple[Tensor, Tensor]:
        """Means and variances (N * width,), copies of what is recorded."""
        mean, beyond = self().detach().chunk(2, dim=-1)
        return mean.flatten().clone(), beyond.flatten() + 1

    def follow(self, mean: Tensor, variance: Tensor) -> None:
        """Record means and variances (N * width,)."""
        rows = [part.unflatten(0, (-1, self.width // 2)) for part in (mean, variance - 1)]
        self.record(torch.cat(rows, dim=-1))

    def expand(self, nodes: NodeSet) -> None:
        known = {*self.ids, *self.cold_ids}
        rows = self.table()
        super().expand(nodes)
        if known and len(rows):
            places = [place for place, name in enumerate(nodes.ids) if name not in known]
            table = self.table()
            table[places] = rows.mean(0)
            self.record(table)
