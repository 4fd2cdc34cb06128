"""ASTGCN's attentions: softmax of V sigmoid(a product of two linear views of the whole window + b)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_pairs import NodePairs
from st_pipeline.layers.node_table import NodeTable


class StepAttention(nn.Module):
    """How much each step gathers from each, (B, T, T), from all sensors together (ASTGCN, AAAI 2019).

    E = softmax over the columns of sigmoid(Q K^T + b) V^T, where in a window X (N, C, T) row s of Q is X_s w_3 and row
    t of K is (X_t w_1) W_2, numbers of N sensors each. w_1 (N) and W_2 (N, C) are node tables; a sum over the sensors
    is divided by sqrt(N), so that its size does not grow with the network.

    Args:
        channels: C.
        steps: T.
    """

    def __init__(self, num_nodes: int, *, channels: int, steps: int) -> None:
        super().__init__()
        self.reduce = NodeTable(num_nodes, 1, bound=1.0)  # w_1
        self.spread = NodeTable(num_nodes, channels, bound=math.sqrt(3 / channels))  # W_2
        self.gatherer = nn.Linear(channels, 1, bias=False)  # w_3
        self.mix = nn.Linear(steps, steps, bias=False)  # V
        self.bias = nn.Parameter(torch.empty(steps, steps))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, T, C) -> (B, T, T), rows of sum 1."""
        scale = x.shape[1] ** -0.5
        gathered = torch.einsum("bntc,n->btc", x, self.reduce()[:, 0]) * scale
        gatherers = self.gatherer(x).squeeze(-1).transpose(1, 2) @ self.spread() * scale  # (B, T, C): Q W_2
        scores = torch.sigmoid(gatherers @ gathered.transpose(1, 2) + self.bias)
        return self.mix(scores).softmax(-1)


class SensorAttention(nn.Module):
    """How much each sensor gathers from each, (B, N, N), from all steps together (ASTGCN, AAAI 2019).

    S = softmax over the columns of sigmoid(Q K^T + b) V^T, where in a window X (N, C, T) row j of Q is X_j w_3 and row
    i of K is (X_i w_1) W_2, numbers of T steps each. b and V are (N, N), of low rank here.

    Args:
        channels: C.
        steps: T.
        rank: of b and of V.
    """

    def __init__(self, num_nodes: int, *, channels: int, steps: int, rank: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(steps, 1, bias=False)  # w_1
        self.spread = nn.Linear(channels, steps, bias=False)  # W_2
        self.gatherer = nn.Linear(channels, 1, bias=False)  # w_3
        self.mix, self.bias = (NodePairs(num_nodes, rank) for _ in range(2))  # V, b

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, T, C) -> (B, N, N), rows of sum 1."""
        gathered = self.spread(self.reduce(x.transpose(2, 3)).squeeze(-1))  # (B, N, T)
        gatherers = self.gatherer(x).squeeze(-1)  # (B, N, T)
        scores = torch.sigmoid(gatherers @ gathered.transpose(1, 2) + self.bias())
        return self.mix.mix(scores).softmax(-1)
