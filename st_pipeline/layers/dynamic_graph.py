"""Graphs of each window: given neighbours, weighed by attention to what they are doing (D2STGNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.row_norm import RowNorm
from st_pipeline.types import Graph

BEYOND = 1e-7  # share of sensors that are no neighbours: what counts for one that has none


class DynamicGraph(nn.Module):
    """P = rows of sum 1 of (walk + 1e-7) * softmax(Q K^T / sqrt(D)), for the walks along the edges and against them.

    Q and K are linear in [f ; calendar ; row of the sensor] with f = W2 drop(norm(ReLU(W1 series))). Each walk has a
    table of rows; all else is shared. A row without edges attends to all sensors.

    Args:
        steps: T, of the series.
        extra: columns of the calendar and of a table's row together.
        hidden: D, of f, Q and K.
    """

    def __init__(self, steps: int, extra: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.inward, self.norm = nn.Linear(steps, 2 * hidden), RowNorm(2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.outward = nn.Linear(2 * hidden, hidden)
        self.query, self.key = (nn.Linear(hidden + extra, hidden, bias=False) for _ in range(2))

    def forward(self, series: Tensor, when: Tensor, graph: Graph, rows: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Twice (B, N, N), rows of sum 1.

        Args:
            series: the readings of every sensor, (B, N, T).
            when: the calendar, (B, E).
            rows: of the sensors for the walk along the edges and for that against them, (N, E').
        """
        features = self.outward(self.dropout(self.norm(torch.relu(self.inward(series)))))
        known = torch.cat([features, when[:, None].expand(-1, series.shape[1], -1)], dim=-1)
        walks = (one.operator("row").matrix.to_dense() for one in (graph, graph.reversed))
        return [self._weighed(walk, known, row) for walk, row in zip(walks, rows, strict=True)]

    def _weighed(self, walk: Tensor, known: Tensor, row: Tensor) -> Tensor:
        known = torch.cat([known, row.expand(len(known), -1, -1)], dim=-1)
        scores = self.query(known) @ self.key(known).mT / self.query.out_features**0.5
        weights = (walk + BEYOND) * scores.softmax(-1)
        return weights / weights.sum(-1, keepdim=True)
