"""A recurrent network on the series of each sensor by itself: what a forecast is worth without a network."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from st_pipeline.layers.calendar_inputs import with_calendar
from st_pipeline.layers.node_major import by_node
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class GRU(Forecaster):
    """Linear on each step, gated recurrent units along the window, Linear from the last state (Cho et al. 2014).

    All sensors share all parameters, and no sensor sees another; the graph is not used. The inputs of a step are its
    readings and its time of day.

    Args:
        hidden: width of the steps and of the states.
        layers: recurrent layers, one on top of the other.

    Raises:
        InputError: an option below 1.
    """

    hops = 0

    def __init__(self, shape: SeriesShape, *, hidden: int = 64, layers: int = 1) -> None:
        super().__init__()
        check_least("gru", hidden=hidden, layers=layers)
        self.shape = shape
        self.start = nn.Linear(shape.channels + 1, hidden)
        self.gru = nn.GRU(hidden, hidden, layers)
        self.fc = nn.Linear(hidden, shape.horizon)

    @property
    def width(self) -> int:
        return self.start.out_features

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.width)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def working_width(self) -> int:
        """Every step, and its state in each layer."""
        return self.shape.window * self.width * (1 + self.gru.num_layers)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, hidden)."""
        return cast(Tensor, self.start(with_calendar(window, self.shape, week=False)))

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, hidden): the top layer's state after the last step."""
        series = hidden.permute(1, 2, 0, 3)  # (T, N, B, hidden)
        states: Tensor = self.gru(series.flatten(1, 2))[1]
        return states[-1].view(series.shape[1:]).transpose(0, 1)

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.fc, hidden).transpose(1, 2)  # (B, N, H) -> (B, H, N)
