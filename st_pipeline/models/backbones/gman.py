"""GMAN: attention across sensors and along steps, between an embedding of the past and one of the future."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.adaptive_graph import UNIT
from st_pipeline.layers.attention_block import AttentionBlock, TransformAttention
from st_pipeline.layers.calendar_inputs import DAYS_PER_WEEK
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.layers.row_norm import two_layers
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

COPIES = 4  # of the hidden features that a block keeps of every step, in tens


@BACKBONES.register
class GMAN(Forecaster):
    """An encoder and a decoder of attention blocks, and attention of the future to the past (Zheng et al., AAAI 2020).

    Every attention reads beside the features e[t, n] = F(slot of the day, day of the week at t) + F(place of n), for
    the window and for the forecast. The place of a sensor is a row of a learned table, averaged over a random walk on
    the undirected graph, where the publication has a node2vec embedding that was trained apart. A batch's windows share
    the statistics of the normalisation in training.

    Args:
        blocks: L, of the encoder, and as many of the decoder.
        heads: of each attention.
        hidden: D, width of the features and of e, a multiple of `heads`.
        places: columns of the table of places.
        walk: steps of the walk; 0 leaves every sensor its own row alone, and the graph unused.

    Raises:
        InputError: a width that the heads do not divide, or an option that is too small.
    """

    separable = False

    def __init__(
        self,
        shape: SeriesShape,
        *,
        blocks: int = 5,
        heads: int = 8,
        hidden: int = 64,
        places: int = 64,
        walk: int = 4,
    ) -> None:
        super().__init__()
        check_least("gman", blocks=blocks, heads=heads, hidden=hidden, places=places)
        check_least("gman", 0, walk=walk)
        if hidden % heads:
            raise InputError(f"backbone 'gman': heads is {heads}, expected a divisor of hidden, which is {hidden}")
        self.shape = shape
        self.hidden, self.walk = hidden, walk
        self.inward = two_layers(shape.channels, hidden, hidden)
        self.places = NodeTable(shape.num_nodes, places, bound=UNIT)
        self.of_place = two_layers(places, hidden, hidden)
        self.of_time = two_layers(shape.steps_per_day + DAYS_PER_WEEK, hidden, hidden)
        self.encoder, self.decoder = (
            nn.ModuleList(AttentionBlock(hidden, heads=heads) for _ in range(blocks)) for _ in range(2)
        )
        self.transform = TransformAttention(hidden, heads=heads)
        self.outward = two_layers(hidden, hidden, 1)

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.hidden)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.horizon, self.hidden)

    @property
    def working_width(self) -> int:
        """What the blocks keep of every step."""
        steps = self.shape.window + self.shape.horizon
        return COPIES * self.hidden * steps * len(self.encoder)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, D): the readings alone; where and when they are enters the attention."""
        found: Tensor = self.inward(window.values)
        return found

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, H, N, D)."""
        past, future = self.where(window, graph).split([self.shape.window, self.shape.horizon], dim=1)
        for block in self.encoder:
            hidden = block(hidden, past)
        hidden = self.transform(hidden, past, future)
        for block in self.decoder:
            hidden = block(hidden, future)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """(B, H, N)."""
        forecast: Tensor = self.outward(hidden)
        return forecast.squeeze(-1)

    def where(self, window: Window, graph: Graph) -> Tensor:
        """e (B, T + H, N, D), of the window and of the forecast behind it."""
        day = nn.functional.one_hot(window.time_of_day, self.shape.steps_per_day)
        week = nn.functional.one_hot(window.day_of_week, DAYS_PER_WEEK)
        time: Tensor = self.of_time(torch.cat([day, week], dim=-1).to(window.values.dtype))
        place: Tensor = self.of_place(self.reached(graph))
        return time[:, :, None] + place

    def reached(self, graph: Graph) -> Tensor:
        """The rows of the sensors that a walk of 0 to `walk` steps reaches, averaged: (N, places)."""
        step = self.places()
        steps = [step]
        for _ in range(self.walk):
            step = graph.undirected.propagate(step)
            steps.append(step)
        return torch.stack(steps).mean(0)
