"""D2STGNN: what came from other sensors and what is a sensor's own are taken apart and forecast apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.adaptive_graph import softmax_graph
from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.layers.decoupling import EstimationGate, Remainder
from st_pipeline.layers.dilated_conv import at_least
from st_pipeline.layers.dynamic_graph import DynamicGraph
from st_pipeline.layers.local_conv import LocalConv, OtherHops
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.layers.recurrent_attention import RecurrentAttention
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

GATE = 64  # width inside a gate
GRAPHS = 3  # one learned for all windows, and two of each window
COPIES = 3  # of the hidden features that a layer keeps of every step, in tens


@BACKBONES.register
class D2STGNN(Forecaster):
    """Layers that each forecast a diffused and an inherent part, and pass on what neither explains (Shao et al. 2022).

    (PVLDB 15, arXiv 2206.09112.) A layer's gate estimates how much of the signal is diffused. A `LocalConv` reads that
    part, over a learned graph and two graphs of each window; the inherent block, `RecurrentAttention`, reads what is
    left without it. Both go on for ceil(H / gap) steps, of which each stands for `gap` steps of the forecast. The
    window's graphs are made of its readings, which a prompt does not change. Windows shorter than the convolutions
    reach begin with zeros. In training the windows of a batch share the statistics of a normalisation.

    Args:
        layers: of the network.
        hidden: F, width of the layers, a multiple of `heads`.
        embedding: columns of each table, two of sensors and two of the calendar.
        kernel: steps that a convolution reads at a time.
        order: hops along every graph.
        gap: steps of the forecast that are made at once.
        heads: of the attention.
        forecast: width of what the layers say of the forecast.
        end: width of the head.
        dropout: of the convolutions, of the states with their positions, of the attention, and of the series' features.

    Raises:
        InputError: a width that the heads do not divide, or an option out of its range.
    """

    separable = False

    def __init__(
        self,
        shape: SeriesShape,
        *,
        layers: int = 5,
        hidden: int = 32,
        embedding: int = 10,
        kernel: int = 3,
        order: int = 2,
        gap: int = 3,
        heads: int = 4,
        forecast: int = 256,
        end: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_least("d2stgnn", layers=layers, hidden=hidden, embedding=embedding, kernel=kernel, order=order)
        check_least("d2stgnn", gap=gap, heads=heads, forecast=forecast, end=end)
        _check(hidden, heads, dropout)
        self.shape = shape
        self.hidden, self.order = hidden, order
        self.span = max(shape.window, layers * (kernel - 1) + 1)
        self.ahead = -(-shape.horizon // gap)
        self.readings = nn.Linear(shape.channels, hidden)
        self.calendar = CalendarTable(shape, embedding, embedding)
        bound = math.sqrt(6 / (shape.num_nodes + embedding))
        self.source, self.target = (NodeTable(shape.num_nodes, embedding, bound=bound) for _ in range(2))
        self.dynamic = DynamicGraph(shape.window, 3 * embedding, hidden, dropout=dropout)
        self.layers = nn.ModuleList(
            DecoupledLayer(
                LocalConv(hidden, kernel=kernel, graphs=GRAPHS, order=order, dropout=dropout),
                RecurrentAttention(hidden, heads=heads, dropout=dropout),
                EstimationGate(2 * embedding, 2 * embedding, GATE),
                width=hidden,
                forecast=forecast,
                last=place == layers - 1,
            )
            for place in range(layers)
        )
        self.end1, self.end2 = nn.Linear(forecast, end), nn.Linear(end, gap)

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.span, self.hidden)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.ahead, self.end1.in_features)

    @property
    def working_width(self) -> int:
        """What the layers keep of every step, read and ahead, the head, and a row of the window's graphs."""
        head = self.ahead * (self.end1.in_features + self.end1.out_features)
        return COPIES * self.hidden * len(self.layers) * (self.span + self.ahead) + head + self.shape.num_nodes

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, S, N, F), S being the steps of the window, or those that the convolutions reach."""
        found: Tensor = self.readings(at_least(window.values, self.span))
        return found

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, S', N, forecast), S' being ceil(H / gap): the sum of what all layers say."""
        rows = self.source(), self.target()
        past = self.calendar(window, slice(0, self.shape.window))
        when = nn.functional.pad(past, (0, 0, self.span - past.shape[1], 0))
        series = window.values[..., 0].transpose(1, 2)
        matrices = [softmax_graph(*rows), *self.dynamic(series, past[:, -1], graph, rows)]
        graphs = [OtherHops.of(matrix, self.order) for matrix in matrices]
        who, rest, said = torch.cat(rows, dim=-1), hidden.transpose(1, 2), []
        for layer in self.layers:
            rest, more = layer(rest, when[:, -rest.shape[2] :], who, graphs, steps=self.ahead)
            said.append(more)
        return torch.stack(said).sum(0).transpose(1, 2)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, H, N)."""
        found = self.end2(torch.relu(self.end1(torch.relu(hidden))))  # (B, S', N, gap)
        return found.transpose(2, 3).flatten(1, 2)[:, : self.shape.horizon]


class DecoupledLayer(nn.Module):
    """One layer: the parts that it forecasts, and the signal without them.

    Args:
        local: of the diffused part.
        inherent: of the rest.
        gate: share of the diffused part.
        width: F.
        forecast: width of what is said of the forecast.
        last: nothing reads the rest.
    """

    def __init__(
        self,
        local: LocalConv,
        inherent: RecurrentAttention,
        gate: EstimationGate,
        *,
        width: int,
        forecast: int,
        last: bool,
    ) -> None:
        super().__init__()
        self.gate, self.local, self.inherent = gate, local, inherent
        self.undiffused = Remainder(width)
        self.unexplained = None if last else Remainder(width)
        self.say_diffused, self.say_inherent = (nn.Linear(width, forecast) for _ in range(2))

    def forward(
        self, x: Tensor, when: Tensor, who: Tensor, graphs: Sequence[OtherHops], *, steps: int
    ) -> tuple[Tensor, Tensor]:
        """The rest (B, N, S - k + 1, F) and what is said of the forecast (B, N, steps, forecast).

        Args:
            x: the signal (B, N, S, F).
            when: what is known of its steps, (B, S, E).
            who: what is known of the sensors, (N, E').
        """
        gated = x * self.gate(when, who)
        diffused = self.local(gated, graphs)
        diffused_ahead = self.local.onward(gated, diffused[:, :, -1], graphs, steps=steps)
        rest = self.undiffused(x, diffused)
        own, own_ahead = self.inherent(rest, steps=steps)
        said = self.say_diffused(diffused_ahead) + self.say_inherent(own_ahead)
        return (rest if self.unexplained is None else self.unexplained(rest, own)), said


def _check(hidden: int, heads: int, dropout: float) -> None:
    if hidden % heads:
        raise InputError(f"backbone 'd2stgnn': heads is {heads}, expected a divisor of hidden, which is {hidden}")
    if not 0 <= dropout < 1:
        raise InputError(f"backbone 'd2stgnn': dropout is {dropout}, expected a share from 0 to below 1")
