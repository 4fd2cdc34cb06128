"""STID: identities of the sensor, the time of day and the day of the week, and a multi-layer perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.calendar_inputs import calendar_fractions
from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.layers.node_major import by_node, per_node
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class STID(Forecaster):
    """out = W MLPs([W_x x + b_x | row of the sensor | row of the time of day | row of the weekday]) + b.

    (Shao et al., CIKM 2022, arXiv 2208.05233.) x is a sensor's window with the calendar of every step as fractions of
    the day and of the week; the rows are those of the window's last step. The graph is not used, and no sensor sees
    another. 117,868 parameters for 207 sensors and 12 -> 12 steps of one channel.

    Args:
        series: width of the window's representation.
        node: width of a sensor's row.
        day: width of a time of day's row.
        week: width of a weekday's row.
        layers: perceptrons with a residual connection, one behind the other.
        dropout: inside each of them.

    Raises:
        InputError: a size below 1, or a dropout outside 0 to 1.
    """

    hops = 0

    def __init__(
        self,
        shape: SeriesShape,
        *,
        series: int = 32,
        node: int = 32,
        day: int = 32,
        week: int = 32,
        layers: int = 3,
        dropout: float = 0.15,
    ) -> None:
        super().__init__()
        check_least("stid", series=series, node=node, day=day, week=week, layers=layers)
        if not 0 <= dropout < 1:
            raise InputError(f"backbone 'stid': dropout is {dropout}, expected a share from 0 to below 1")
        self.shape = shape
        width = series + node + day + week
        self.series = nn.Linear(shape.window * (shape.channels + 2), series)
        self.nodes = NodeTable(shape.num_nodes, node)
        self.calendar = CalendarTable(shape, day, week)
        self.mlps = nn.Sequential(*(ResidualMLP(width, dropout) for _ in range(layers)))
        self.fc = nn.Linear(width, shape.horizon)

    @property
    def width(self) -> int:
        return self.fc.in_features

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def working_width(self) -> int:
        """The embedding, and the hidden layer of each perceptron."""
        return self.width * (1 + len(self.mlps))

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, N, series + node + day + week)."""
        last = slice(self.shape.window - 1, self.shape.window)
        series = self._series(window).transpose(0, 1)  # (N, B, series), as memory has it
        nodes = self.nodes()[:, None].expand(-1, series.shape[1], -1)
        when = self.calendar(window, last).transpose(0, 1).expand(len(series), -1, -1)  # (B, 1, F) -> (N, B, F)
        return torch.cat([series, nodes, when], dim=-1).transpose(0, 1)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, width)."""
        deep: Tensor = self.mlps(hidden)
        return deep

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.fc, hidden).transpose(1, 2)  # (B, N, H) -> (B, H, N)

    def _series(self, window: Window) -> Tensor:
        """(B, N, series): the calendar, the same for all sensors, is multiplied once for each window."""
        weight, own = self.series.weight, self.shape.window * self.shape.channels
        fractions = calendar_fractions(window, self.shape)[:, : self.shape.window]  # (B, T, 2)
        when = nn.functional.linear(fractions.transpose(1, 2).flatten(1), weight[:, own:])
        rows = per_node(window.values).transpose(0, 1)
        return (nn.functional.linear(rows, weight[:, :own], self.series.bias) + when).transpose(0, 1)


class ResidualMLP(nn.Module):
    """x + W2 dropout(ReLU(W1 x + b1)) + b2."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inward = nn.Linear(width, width)
        self.outward = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> the same."""
        return x + by_node(self.outward, self.dropout(torch.relu(by_node(self.inward, x))))
