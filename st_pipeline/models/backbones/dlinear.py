"""DLinear: a trend and what is left of it, each forecast by one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.node_major import by_node, per_node
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class DLinear(Forecaster):
    """out = W_t trend + b_t + W_r (x - trend) + b_r, trend a moving average of x (Zeng et al., AAAI 2023).

    The average of a step covers as many steps before as behind it; the window's first and last value stand for what
    lies outside. All sensors share the layers; the graph and the calendar are not used. The target is forecast from
    all channels.

    Args:
        kernel: steps of the moving average, an odd number.

    Raises:
        InputError: the kernel is even or below 1.
    """

    hops = 0

    def __init__(self, shape: SeriesShape, *, kernel: int = 5) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"backbone 'dlinear': kernel is {kernel}, expected an odd number of steps, e.g. 5")
        self.shape = shape
        self.kernel = kernel
        self.trend, self.remainder = (nn.Linear(shape.window * shape.channels, shape.horizon) for _ in range(2))

    @property
    def width(self) -> int:
        return 2 * self.shape.window * self.shape.channels

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.horizon,)

    @property
    def working_width(self) -> int:
        return self.width + 2 * self.shape.horizon

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, N, 2 * C * T): the trend, channel by channel, and what is left of the window."""
        rows = per_node(window.values).transpose(0, 1)  # (N, B, C * T), as memory has it
        trend = moving_average(rows.unflatten(-1, (self.shape.channels, -1)), self.kernel).flatten(-2)
        return torch.cat([trend, rows - trend], dim=-1).transpose(0, 1)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, H): the forecast."""
        trend, remainder = hidden.chunk(2, dim=-1)
        return by_node(self.trend, trend) + by_node(self.remainder, remainder)

    def head(self, hidden: Tensor) -> Tensor:
        return hidden.transpose(1, 2)  # (B, N, H) -> (B, H, N)


def moving_average(series: Tensor, kernel: int) -> Tensor:
    """Mean of the `kernel` steps around each step, the ends repeated outwards: (..., T) -> the same."""
    steps = series.shape[-1]
    around = torch.arange(steps)[:, None] + torch.arange(kernel) - kernel // 2  # (T, kernel)
    weight = nn.functional.one_hot(around.clamp(0, steps - 1), steps).to(series).mean(1)  # (T, T), rows of sum 1
    return series @ weight.t()
