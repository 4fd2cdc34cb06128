"""AGCRN: recurrent units with parameters of each node's own on a learned graph."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.layers.adaptive_graph import softmax_graph
from st_pipeline.layers.calendar_inputs import with_calendar
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.layers.pooled_conv import pooled_gru
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

BOUND = 1.0  # of new rows of E


@BACKBONES.register
class AGCRN(Forecaster):
    """One embedding of the nodes, E, gives the graph softmax(relu(E E^T)) and every node's weights E . pool.

    (Bai et al., NeurIPS 2020.) The last state of the last of the units in a stack forecasts all steps at once. The
    given graph is not used.

    Args:
        hidden: D, width of a unit.
        layers: units on top of each other.
        embedding: width of E.
        order: terms of the graph convolution; 2 are a node's own features and those that it gathers.
        time_of_day: whether it is an input beside the values.

    Raises:
        InputError: an option below 1.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        hidden: int = 64,
        layers: int = 2,
        embedding: int = 10,
        order: int = 2,
        time_of_day: bool = True,
    ) -> None:
        super().__init__()
        check_least("agcrn", hidden=hidden, layers=layers, embedding=embedding, order=order)
        self.shape = shape
        self.hidden, self.order = hidden, order
        self.time_of_day = time_of_day
        self.nodes = NodeTable(shape.num_nodes, embedding, bound=BOUND)
        widths = (self.width, *(hidden,) * (layers - 1))
        self.units = nn.ModuleList(pooled_gru(width, hidden, query=embedding, order=order) for width in widths)
        self.out = nn.Linear(hidden, shape.horizon)

    @property
    def width(self) -> int:
        return self.shape.channels + self.time_of_day

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.width)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.hidden,)

    @property
    def working_width(self) -> int:
        """All layers at all steps, each with the terms of its convolutions twice and five widths of gates and states.

        These are all copies there are, of which the estimate counts ten.
        """
        copies = 4 * self.order + 5
        return max(self.hidden * len(self.units) * self.shape.window * copies // 10, self.shape.horizon)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, C), or with the time of day (B, T, N, C + 1)."""
        return with_calendar(window, self.shape, week=False) if self.time_of_day else window.values

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, D): the last state of the last layer."""
        nodes = self.nodes()
        adjacency = softmax_graph(nodes)
        for unit in self.units:
            hidden = unit(hidden, adjacency, nodes)
        return hidden[:, -1]

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.out, hidden).transpose(1, 2)  # (B, N, H) -> (B, H, N)
