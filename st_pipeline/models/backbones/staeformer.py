"""STAEformer: a plain transformer over steps and sensors whose embedding knows each sensor at each step."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.layers.sequence import Along
from st_pipeline.layers.transformer import TransformerLayer
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

BOUND = 0.02  # of new rows of the adaptive embedding


@BACKBONES.register
class STAEformer(Forecaster):
    """Transformer layers along the steps, then along the sensors, of a rich embedding (Liu et al., CIKM 2023).

    e[t, n] = [readings and calendar at t through a linear layer, row of the slot, row of the day, row of (t, n)]. The
    last, the adaptive embedding, is a table of T * `adaptive` numbers a sensor. The given graph is not used.

    Args:
        inputs: width of the linear layer of the channels, the time of day as a fraction and the day of the week 0..6.
        day: width of a slot's row, 0 for none.
        week: width of a day's row, 0 for none.
        adaptive: width of the row of a step and sensor, 0 for none.
        heads: of each attention; divides the sum of the four widths.
        feedforward: hidden width of a layer's network.
        layers: along the steps, and as many along the sensors.
        dropout: of both outputs of a layer.

    Raises:
        InputError: a width that the heads do not divide, or an option out of its range.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        inputs: int = 24,
        day: int = 24,
        week: int = 24,
        adaptive: int = 80,
        heads: int = 4,
        feedforward: int = 256,
        layers: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        widths = {"inputs": inputs, "day": day, "week": week, "adaptive": adaptive}
        _check(widths, heads=heads, feedforward=feedforward, layers=layers, dropout=dropout)
        width = sum(widths.values())
        self.shape = shape
        self.readings = nn.Linear(shape.channels + 2, inputs)
        self.calendar = CalendarTable(shape, day, week, draw=nn.init.normal_)
        self.adaptive = NodeTable(shape.num_nodes, shape.window * adaptive, bound=BOUND)
        make = partial(TransformerLayer, width, heads=heads, feedforward=feedforward, dropout=dropout)
        self.along_time = nn.ModuleList(Along(make(), "time") for _ in range(layers))
        self.along_nodes = nn.ModuleList(Along(make(), "node") for _ in range(layers))
        self.fc = nn.Linear(shape.window * width, shape.horizon)

    @property
    def width(self) -> int:
        return self.fc.in_features // self.shape.window

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.width)

    @property
    def deep(self) -> tuple[int, ...]:
        return self.shallow

    @property
    def working_width(self) -> int:
        """What the layers keep of every step."""
        return max(self.shape.horizon, 4 * len(self.along_time) * self.fc.in_features)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, width), nodes first in memory."""
        values = window.values.movedim(2, 0)  # (N, B, T, C)
        nodes, batch, steps, _ = values.shape
        past = slice(0, steps)
        days = torch.stack([window.time_of_day[:, past] / self.shape.steps_per_day, window.day_of_week[:, past]], -1)
        readings = self.readings(torch.cat([values, days.to(values.dtype).expand(nodes, -1, -1, -1)], dim=-1))
        calendar = self.calendar(window, past).expand(nodes, -1, -1, -1)
        adaptive = self.adaptive().view(nodes, 1, steps, -1).expand(-1, batch, -1, -1)
        return torch.cat([readings, calendar, adaptive], dim=-1).movedim(0, 2)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, width)."""
        for layer in (*self.along_time, *self.along_nodes):
            hidden = layer(hidden)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """(B, H, N)."""
        out: Tensor = self.fc(hidden.transpose(1, 2).flatten(2))  # (B, T, N, F) -> (B, N, T * F)
        return out.transpose(1, 2)


def _check(widths: dict[str, int], *, heads: int, feedforward: int, layers: int, dropout: float) -> None:
    """Refuse options out of their range."""
    check_least("staeformer", heads=heads, feedforward=feedforward, layers=layers, inputs=widths["inputs"])
    check_least("staeformer", 0, **widths)
    if sum(widths.values()) % heads:
        raise InputError(
            f"backbone 'staeformer': heads is {heads}, expected a divisor of {sum(widths.values())}, which is "
            f"{' + '.join(widths)}"
        )
    if not 0 <= dropout < 1:
        raise InputError(f"backbone 'staeformer': dropout is {dropout}, expected at least 0 and below 1")
