"""Backbones that see a window's steps as features of a node."""

from __future__ import annotations

from torch import Tensor

from st_pipeline.layers.node_major import per_node
from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, Window


class FlatWindow(Forecaster):
    """Base of backbones whose embedding is the flattened window."""

    @property
    def width(self) -> int:
        return self.shape.window * self.shape.channels

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, N, C * T): the flattened window, channel by channel."""
        return per_node(window.values)
