"""A mixer: perceptrons across the features of a node, and across the nodes through low-rank tables."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.layers.node_major import by_node, per_node
from st_pipeline.layers.node_mixing import NodeMixing
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

EXPANSION = 2  # hidden width of the perceptron across features, in widths


@BACKBONES.register
class STMixer(Forecaster):
    """Blocks h + mix(LN(h)) and h + MLP(LN(h)) on a node's window, its row and the calendar's; a design of our own.

    The nodes are mixed as in MLP-Mixer (Tolstikhin et al., NeurIPS 2021), but through r slots, N -> r -> N, with a row
    of a node table on either side, so that a network can grow and shrink. The graph is not used: what a sensor learns
    of others it learns from these tables.

    Args:
        hidden: width of a node's representation.
        slots: r, rank of the mixing of nodes.
        blocks: how many.
        dropout: inside the perceptrons across features.

    Raises:
        InputError: a size below 1, an odd width, or a dropout outside 0 to 1.
    """

    def __init__(
        self, shape: SeriesShape, *, hidden: int = 64, slots: int = 16, blocks: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_least("stmixer", hidden=hidden, slots=slots, blocks=blocks)
        if hidden % 2:
            raise InputError(f"backbone 'stmixer': hidden is {hidden}, expected an even number, half of it for the day")
        if not 0 <= dropout < 1:
            raise InputError(f"backbone 'stmixer': dropout is {dropout}, expected a share from 0 to below 1")
        self.shape = shape
        self.start = nn.Linear(shape.window * shape.channels, hidden)
        self.nodes = NodeTable(shape.num_nodes, hidden)
        self.calendar = CalendarTable(shape, hidden // 2, hidden // 2)
        self.blocks = nn.Sequential(*(MixerBlock(shape.num_nodes, hidden, slots, dropout) for _ in range(blocks)))
        self.norm = nn.LayerNorm(hidden)
        self.fc = nn.Linear(hidden, shape.horizon)

    @property
    def width(self) -> int:
        return self.fc.in_features

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def working_width(self) -> int:
        """The embedding, and of each block the hidden layer of its perceptron."""
        return self.width * (1 + len(self.blocks) * EXPANSION)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, N, hidden): the window, the sensor and the last step's time of day and weekday, added up."""
        when: Tensor = self.calendar(window, slice(self.shape.window - 1, self.shape.window))  # (B, 1, hidden)
        return by_node(self.start, per_node(window.values)) + when + self.nodes()

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, hidden)."""
        deep: Tensor = self.norm(self.blocks(hidden))
        return deep

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.fc, hidden).transpose(1, 2)  # (B, N, H) -> (B, H, N)


class MixerBlock(nn.Module):
    """x + mix(LN(x)), then x + W2 dropout(GELU(W1 LN(x) + b1)) + b2."""

    def __init__(self, num_nodes: int, width: int, slots: int, dropout: float) -> None:
        super().__init__()
        self.before_nodes, self.before_features = nn.LayerNorm(width), nn.LayerNorm(width)
        self.nodes = NodeMixing(num_nodes, slots)
        self.inward = nn.Linear(width, EXPANSION * width)
        self.outward = nn.Linear(EXPANSION * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> the same."""
        x = x + self.nodes(self.before_nodes(x))
        inside = nn.functional.gelu(by_node(self.inward, self.before_features(x)))
        return x + by_node(self.outward, self.dropout(inside))
