"""STKEC's network: the graph network of TrafficStream with a memory of patterns behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.graph_block import graph_block
from st_pipeline.layers.graph_conv import GraphConv
from st_pipeline.layers.hidden_conv import HiddenConv
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.pattern_memory import PatternMemory
from st_pipeline.models.base import Criterion
from st_pipeline.models.flat_window import FlatWindow
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Target, Window

CLUSTERING = 0.1  # weight of the clustering loss
NO_CLUSTER = -1


@BACKBONES.register
class STKEC(FlatWindow):
    """out = fc(ReLU(Z + X + a M)) with Z = gcn2(tcn(ReLU(gcn1(X + P)))), the attention a = Z M^T and a memory M.

    (STKEC, T-ITS 2023, as its public code and its copy in EAC's have it: 3,596 parameters for 12 -> 12 steps of one
    channel.) X in the residual is the un-prompted target. In training, `node_clusters` (N,) int may say which
    long-term pattern each node has, -1 for none; the code's clustering loss, 0.1 times the cross entropy of the
    attention against it, is cut off from every parameter, a constant, and is left out here when `published`.

    Args:
        patterns: rows of M.
        hidden: width of the hidden layer.
        published: as the code runs, or as it was meant: the memory is read with softmax(a), and where the nodes'
            clusters are set the clustering loss is part of the training loss.
    """

    hops = 2

    node_clusters: Tensor | None

    def __init__(self, shape: SeriesShape, *, patterns: int = 24, hidden: int = 64, published: bool = True) -> None:
        super().__init__()
        self.shape = shape
        self.published = published
        self.node_clusters = None
        self.gcn1 = GraphConv(shape.window * shape.channels, hidden)
        self.tcn = HiddenConv()
        self.gcn2 = GraphConv(hidden, shape.window)
        self.memory = PatternMemory(patterns, shape.window, read="logits" if published else "softmax")
        self.fc = nn.Linear(shape.window, shape.horizon)

    @property
    def working_width(self) -> int:
        return super().working_width + len(self.memory)  # the attention is kept as well

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.window,)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, T)."""
        return self._remembered(self._deep(hidden, None, graph), window)

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        return self.head(self._remembered(self._deep(self.embed(window, graph), prompt, graph), window))

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.fc, torch.relu(hidden)).transpose(1, 2)  # (B, N, H) -> (B, H, N)

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        """The forecast's loss; unless `published`, with the clustering loss of the nodes whose cluster is set."""
        if self.published or self.node_clusters is None:
            return super().training_loss(window, target, graph, criterion)
        deep = self._deep(self.embed(window, graph), None, graph)
        loss = criterion(self.head(self._remembered(deep, window)), target)
        return loss + CLUSTERING * self._clustering_loss(deep, self.node_clusters)

    def _deep(self, hidden: Tensor, prompt: Tensor | None, graph: Graph) -> Tensor:
        return graph_block(hidden, self.gcn1.stacked(), self.gcn2.after(self.tcn), graph, prompt=prompt)

    def _remembered(self, deep: Tensor, window: Window) -> Tensor:
        return deep + window.values[..., 0].transpose(1, 2) + self.memory(deep)[1]  # (B, T, N) -> (B, N, T)

    def _clustering_loss(self, deep: Tensor, clusters: Tensor) -> Tensor:
        """Mean cross entropy over windows and nodes that have a cluster."""
        scores = self.memory.scores(deep).transpose(0, 1)  # (N, B, M)
        wanted = clusters[:, None].expand(scores.shape[:2])
        loss = nn.functional.cross_entropy(
            scores.flatten(0, 1), wanted.flatten(), ignore_index=NO_CLUSTER, reduction="sum"
        )
        return loss / (wanted != NO_CLUSTER).sum().clamp(min=1)
