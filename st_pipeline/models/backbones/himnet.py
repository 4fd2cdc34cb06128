"""HimNet: recurrent units whose parameters depend on the time, on the sensor, and on both."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from st_pipeline.layers.adaptive_graph import softmax_graph
from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.layers.graph_gru import GraphGRU, stack_steps
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.layers.pooled_conv import pooled_gru
from st_pipeline.layers.scheduled_sampling import Feedback, ScheduledSampling
from st_pipeline.models.options import check_least
from st_pipeline.models.sampled_decoder import SampledDecoder
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

CALENDAR = 2  # inputs of every step: the time of day in [0, 1) and the day of the week, 0 to 6


@BACKBONES.register
class HimNet(SampledDecoder):
    """Two encoders and a decoder whose parameters embeddings draw from pools (Dong et al., KDD 2024).

    One encoder has parameters of the window's last time, E_t, the other has each sensor's own, by E_s; both convolve
    over the graph of E_s. The sum of their last states is where the decoder begins, and a linear map of it, E_st, gives
    each sensor of each window its own parameters and neighbours. The given graph is not used.

    The decoder reads its own last forecast, in training sometimes the label instead. A wrapper that computes its own
    loss, such as a prompt pool, hands no labels on: inside it the decoder reads its own forecasts in training as well.

    Args:
        hidden: D, width of a unit.
        layers: units on top of each other, in each encoder and in the decoder.
        day: columns of E_t for the time of day.
        week: columns of E_t for the day of the week.
        spatial: columns of E_s.
        mixed: columns of E_st.
        order: terms of the graph convolution; 2 are a node's own features and those that it gathers.
        temporal_pool: `embedding`; `ones` in place of E_t (the paper's w/o E_t); or `none`, one set of parameters for
            all times in place of the pool (w/o TMP).
        spatial_pool: the same with E_s (w/o E_s, w/o SMP); of ones the encoders' graph is uniform.
        mixed_pool: the same with E_st (w/o E_st, w/o STMP); of ones the decoder's graph is uniform.
        tau: of scheduled sampling; 0 for none.

    Raises:
        InputError: an option is too small.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        hidden: int = 64,
        layers: int = 1,
        day: int = 8,
        week: int = 8,
        spatial: int = 16,
        mixed: int = 16,
        order: int = 2,
        temporal_pool: Literal["embedding", "ones", "none"] = "embedding",
        spatial_pool: Literal["embedding", "ones", "none"] = "embedding",
        mixed_pool: Literal["embedding", "ones", "none"] = "embedding",
        tau: int = 6000,
    ) -> None:
        super().__init__()
        check_least(
            "himnet", hidden=hidden, layers=layers, day=day, week=week, spatial=spatial, mixed=mixed, order=order
        )
        check_least("himnet", 0, tau=tau)
        self.shape = shape
        self.hidden, self.order = hidden, order
        self.query_widths = day + week, spatial, mixed
        timed, placed, mixes = temporal_pool == "embedding", spatial_pool != "ones", mixed_pool != "ones"
        bound = math.sqrt(6 / (shape.num_nodes + spatial))
        self.temporal_embedding = CalendarTable(shape, day, week, draw=nn.init.normal_) if timed else None
        self.spatial_embedding = NodeTable(shape.num_nodes, spatial, bound=bound) if placed else None
        self.mixed_embedding = nn.Linear(hidden, mixed) if mixes else None
        stack = partial(_stack, hidden=hidden, layers=layers, order=order)
        self.temporal_encoder = stack(self.width, query=None if temporal_pool == "none" else day + week)
        self.spatial_encoder = stack(self.width, query=None if spatial_pool == "none" else spatial)
        self.decoder = stack(1 + CALENDAR, query=None if mixed_pool == "none" else mixed)
        self.out = nn.Linear(hidden, 1)
        self.sampling = ScheduledSampling(tau)

    @property
    def width(self) -> int:
        return self.shape.channels + CALENDAR

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.width)

    @property
    def working_width(self) -> int:
        """All layers' states at all steps with the terms of their convolutions, and a row of the decoder's graph.

        What the gates keep beside them is among the copies of each.
        """
        steps = 2 * self.shape.window + self.shape.horizon
        return self.hidden * len(self.decoder) * steps * (1 + self.order) + self.shape.num_nodes

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, C + 2): the values, the time of day in [0, 1) and the day of the week, 0 to 6."""
        nodes = window.values.movedim(-2, 0)  # (N, B, T, C)
        when = self._calendar(window)[:, : self.shape.window].expand(len(nodes), -1, -1, -1)
        return torch.cat([nodes, when], dim=-1).movedim(0, -2)

    def decoded(self, hidden: Tensor, window: Window, graph: Graph, feedback: Feedback) -> Tensor:
        place = self._spatial_query(hidden)
        adjacency, time = softmax_graph(place), self._temporal_query(window)
        by_time = _encode(self.temporal_encoder, hidden, adjacency, time)
        by_place = _encode(self.spatial_encoder, hidden, adjacency, place)
        return self._decode(by_time + by_place, self._calendar(window)[:, self.shape.window :], feedback)

    def _decode(self, state: Tensor, calendar: Tensor, feedback: Feedback) -> Tensor:
        """(B, H, N, D) from where all layers begin (B, N, D) and the calendar of the forecast (B, H, 2)."""
        query = self._mixed_query(state)
        adjacency = softmax_graph(query)
        units = [cast(GraphGRU, unit).bind(adjacency, query) for unit in self.decoder]
        states, deep = [state] * len(units), []
        read = torch.zeros_like(state[..., 0])  # (B, N)
        for step, when in enumerate(calendar.unbind(1)):
            x = torch.cat([read[..., None], when[:, None].expand(-1, read.shape[1], -1)], dim=-1)
            for layer, unit in enumerate(units):
                x = states[layer] = unit(x, states[layer])
            deep.append(x)
            read = feedback(step, by_node(self.out, x).squeeze(-1))
        return stack_steps(deep)

    def _temporal_query(self, window: Window) -> Tensor:
        """(B, 1, d): E_t of the last input step."""
        if self.temporal_embedding is None:
            return window.values.new_ones(len(window.values), 1, self.query_widths[0])
        return self.temporal_embedding(window, slice(self.shape.window - 1, self.shape.window))

    def _spatial_query(self, hidden: Tensor) -> Tensor:
        """(N, d): E_s."""
        if self.spatial_embedding is None:
            return hidden.new_ones(hidden.shape[-2], self.query_widths[1])
        return self.spatial_embedding()

    def _mixed_query(self, state: Tensor) -> Tensor:
        """(B, N, d): E_st."""
        if self.mixed_embedding is None:
            return state.new_ones(*state.shape[:-1], self.query_widths[2])
        return by_node(self.mixed_embedding, state)

    def _calendar(self, window: Window) -> Tensor:
        """(B, T + H, 2)."""
        fraction = window.time_of_day / self.shape.steps_per_day
        return torch.stack([fraction, window.day_of_week.to(fraction.dtype)], dim=-1).to(window.values.dtype)


def _stack(inputs: int, *, hidden: int, layers: int, query: int | None, order: int) -> nn.ModuleList:
    widths = (inputs, *(hidden,) * (layers - 1))
    return nn.ModuleList(pooled_gru(width, hidden, query=query, order=order) for width in widths)


def _encode(units: nn.ModuleList, hidden: Tensor, adjacency: Tensor, query: Tensor) -> Tensor:
    """The last layer's last state, (B, N, D)."""
    for unit in units:
        hidden = unit(hidden, adjacency, query)
    return hidden[:, -1]
