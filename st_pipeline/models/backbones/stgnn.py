"""The spatio-temporal graph network of EAC and TrafficStream, with a calendar as an option."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.graph_block import graph_block
from st_pipeline.layers.graph_conv import GraphConv, LinearMap
from st_pipeline.layers.hidden_conv import HiddenConv
from st_pipeline.layers.node_major import by_node, per_node
from st_pipeline.layers.seasonal_mixture import SeasonalMixture
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

DAYS_PER_WEEK = 7


@BACKBONES.register
class STGNN(Forecaster):
    """Two graph convolutions with a convolution along the hidden axis between them (EAC, Appendix D).

    The published form, 3,308 parameters for 12 -> 12 steps of one channel:
    out = fc(GELU(gcn2(tcn(ReLU(gcn1(X + P)))) + X)), where the window's steps are the features of a node and the
    residual X is the un-prompted target.

    An `adapter` of the hidden axis, where a wrapper sets one, acts before and behind the convolution between.

    Args:
        hidden: width of the hidden layer.
        calendar: adds embeddings of the time of day and the day of the week at which the forecast begins, and an
            indicator of observed cells; the second convolution then keeps the hidden width, and lagged channels,
            where the window has them, reach the output through a learned mixture.
        context: further columns of the embedding that only prompts fill: what is particular to a sensor.
    """

    hops = 2

    def __init__(self, shape: SeriesShape, *, hidden: int = 64, calendar: bool = False, context: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.hidden = hidden
        self.context = context
        self.adapter: LinearMap | None = None
        features = shape.window * shape.channels
        wide = hidden if calendar else shape.window
        self.gcn1 = GraphConv(features + context, hidden)
        self.tcn = HiddenConv()
        self.gcn2 = GraphConv(hidden, wide)
        self.fc = nn.Linear(wide, shape.horizon)
        self.calendar = Calendar(shape, hidden) if calendar else None

    @property
    def adaptive(self) -> tuple[nn.Module, ...]:
        """What a later period may tune at little cost: calendar prompts with the seasonal mixture, output layer."""
        return (self.fc,) if self.calendar is None else (self.calendar, self.fc)

    @property
    def width(self) -> int:
        return self.shape.window * self.shape.channels + self.context

    @property
    def temporal(self) -> nn.Module:
        """What lies between the two graph convolutions, by the name that it has in other backbones."""
        return self.tcn

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, N, T * C + context): the flattened window, channel by channel, and empty context columns."""
        flat = per_node(window.values)
        return nn.functional.pad(flat, (0, self.context)) if self.context else flat

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.fc.in_features + (self.shape.horizon if self.calendar else 0),)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, T), or with a calendar (B, N, hidden + H): the last columns are what the mixture adds."""
        return self._core(hidden, None, window, graph)

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        return self.head(self._core(self.embed(window, graph), prompt, window, graph))

    def _core(self, hidden: Tensor, prompt: Tensor | None, window: Window, graph: Graph) -> Tensor:
        calendar, adapter = self.calendar, self.adapter
        between = (self.tcn,) if adapter is None else (adapter, self.tcn, adapter)
        deep = graph_block(
            hidden,
            self.gcn1.stacked(),
            self.gcn2.after(*between),
            graph,
            addition=calendar.addition(window) if calendar else None,
            prompt=prompt,
        )
        if calendar is None:
            return deep + window.values[..., 0].transpose(1, 2)  # (B, T, N) -> (B, N, T)
        return torch.cat([deep, calendar(window)], dim=-1)

    def head(self, hidden: Tensor) -> Tensor:
        wide = self.fc.in_features
        out = by_node(self.fc, nn.functional.gelu(hidden[..., :wide]))
        if self.calendar is not None:
            out = out + hidden[..., wide:]
        return out.transpose(1, 2)  # (B, N, H) -> (B, H, N)


class Calendar(SeasonalMixture):
    """What the calendar and the mask say, (B, N, hidden) added to the first layer, beside the seasonal mixture."""

    def __init__(self, shape: SeriesShape, hidden: int) -> None:
        super().__init__(shape)
        self.time_of_day = nn.Parameter(torch.empty(shape.steps_per_day, hidden))
        self.day_of_week = nn.Parameter(torch.empty(DAYS_PER_WEEK, hidden))
        self.observed = nn.Linear(shape.window * shape.channels, hidden, bias=False)
        self._draw()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._draw()

    def _draw(self) -> None:
        for table in (self.time_of_day, self.day_of_week):
            nn.init.normal_(table, std=0.1)

    def addition(self, window: Window) -> Tensor:
        """(B, N, hidden) of the time at which the forecast begins and of observed cells."""
        steps = self.shape.window
        seen = per_node(window.observed.to(self.latest.dtype))
        begin = (window.time_of_day[:, steps], window.day_of_week[:, steps])
        when = self.time_of_day[begin[0]] + self.day_of_week[begin[1]]
        return by_node(self.observed, seen) + when[:, None]
