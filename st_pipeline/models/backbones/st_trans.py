"""ST-Trans: queries for every forecast step, aligned with the few readings of the network that matter to them."""

from __future__ import annotations

from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.alignment import Alignment, AttentionGraph
from st_pipeline.layers.calendar_table import CalendarTable
from st_pipeline.layers.gated_fusion import GatedFusion
from st_pipeline.layers.node_table import NodeTable
from st_pipeline.layers.sequence import Along
from st_pipeline.layers.surroundings import Surroundings, surroundings
from st_pipeline.layers.transformer import TransformerLayer
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

BUCKETS = 32  # of distances between sensors
BOUND = 0.1  # of new rows of the sensors' embedding


class CrossLayer(nn.Module):
    """What the alignment finds for each state is fused into it; then a network of two layers with a residual."""

    def __init__(self, alignment: Alignment, width: int, *, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.alignment = alignment
        self.fusion = GatedFusion(width, dropout=dropout)
        self.network = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width), nn.Dropout(dropout)
        )

    def forward(self, state: Tensor, memory: Tensor, places: Surroundings) -> Tensor:
        """States (B, N, H, D) and tokens (B, N, T, D) -> (B, N, H, D)."""
        state = self.fusion(state, self.alignment(state, memory, places))
        out: Tensor = state + self.network(state)
        return out


@BACKBONES.register
class STTrans(Forecaster):
    """Transformer with sparse cross attention over the whole network (ST-Trans, Zhi Cai, Jiangsu University).

    Every reading is a token, and every sensor and forecast step asks: with a row of the step, of the sensor, of the
    calendar then, and the sensor's last state. The paper leaves much open; what is filled in is named in the card.
    A pair of tokens has a distance along the graph in place of coordinates.

    The paper's ablations: `search="none"` without alignment, `search="dense"` without top-k, `bases=1` without dynamic
    weights, `positions="fixed"`, and `near=0` without the local window.

    Args:
        hidden: D, a multiple of `heads`.
        layers: of cross attention.
        encoder: layers along the steps of each sensor before them; 0 for none.
        feedforward: hidden width of every layer's network.
        search: how a query finds its tokens, see `layers/alignment.py`.
        keep: tokens of the whole network that a query attends to.
        near: sensors of the local window, the own one among them; 0 for no window.
        recent: last steps of the local window.
        nodes: sensors that the first of two stages finds beside the near ones.
        bases: matrices that each window mixes its projections of values from.
        positions: whether what distance and lag add to a score is learned.
        dropout: of what is added to a state.

    Raises:
        InputError: heads that do not divide the width, or an option out of its range.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        hidden: int = 256,
        heads: int = 8,
        layers: int = 4,
        encoder: int = 2,
        feedforward: int = 1024,
        search: Literal["exact", "two_stage", "dense", "none"] = "exact",
        keep: int = 64,
        near: int = 8,
        recent: int = 8,
        nodes: int = 16,
        bases: int = 4,
        positions: Literal["learned", "fixed"] = "learned",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_least("st_trans", hidden=hidden, heads=heads, layers=layers, feedforward=feedforward)
        check_least("st_trans", keep=keep, recent=recent, nodes=nodes, bases=bases)
        check_least("st_trans", 0, encoder=encoder, near=near)
        if hidden % heads:
            raise InputError(f"backbone 'st_trans': heads is {heads}, expected a divisor of hidden, which is {hidden}")
        if not 0 <= dropout < 1:
            raise InputError(f"backbone 'st_trans': dropout is {dropout}, expected at least 0 and below 1")
        self.shape = shape
        self.search, self.near, self.feedforward = search, near, feedforward
        self.readings = nn.Linear(shape.channels, hidden)
        self.calendar = CalendarTable(shape, hidden, hidden)
        self.sensors = NodeTable(shape.num_nodes, hidden, bound=BOUND)
        self.ahead = nn.Embedding(shape.horizon, hidden)
        self.last = nn.Linear(hidden, hidden)
        encode = partial(TransformerLayer, hidden, heads=heads, feedforward=feedforward, dropout=dropout)
        self.encoder = nn.ModuleList(Along(encode(norm_first=True, activation="gelu"), "time") for _ in range(encoder))
        self.norm = nn.LayerNorm(hidden)
        align = partial(Alignment, hidden, heads=heads, window=shape.window, horizon=shape.horizon, search=search)
        align = partial(align, keep=keep, recent=recent, nodes=nodes, bases=bases, learned=positions == "learned")
        self.layers = nn.ModuleList(
            CrossLayer(align(buckets=BUCKETS), hidden, feedforward=feedforward, dropout=dropout) for _ in range(layers)
        )
        self.out = nn.Linear(hidden, 1)

    @property
    def width(self) -> int:
        return self.sensors.width

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.width)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.horizon, self.width)

    @property
    def working_width(self) -> int:
        """What the layers keep of every step read and forecast; scores are computed anew for their gradient."""
        steps = self.shape.window * (1 + len(self.encoder)) + (self.shape.window + self.shape.horizon) * len(
            self.layers
        )
        return max(self.feedforward, steps * (self.width + self.feedforward // 4))

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, D): readings, calendar and sensor, summed."""
        calendar = self._calendar(window, slice(0, self.shape.window))
        out: Tensor = self.readings(window.values) + calendar[:, :, None] + self.sensors()
        return out

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, H, N, D)."""
        return self._cross(hidden, window, graph)[0]

    def head(self, hidden: Tensor) -> Tensor:
        """(B, H, N)."""
        out: Tensor = self.out(hidden)
        return out.squeeze(-1)

    @torch.no_grad()
    def attention(self, window: Window, graph: Graph, hidden: Tensor | None = None) -> list[AttentionGraph]:
        """What each forecast is made of, layer by layer; not with `search="none"`.

        Args:
            hidden: (B, T, N, D), the embedding where something was added to it, such as prompts.
        """
        embedded = self.embed(window, graph) if hidden is None else hidden
        return self._cross(embedded, window, graph, watch=True)[1]

    def _cross(
        self, hidden: Tensor, window: Window, graph: Graph, *, watch: bool = False
    ) -> tuple[Tensor, list[AttentionGraph]]:
        """The last layer's states (B, H, N, D), and every layer's attention graph where it is watched."""
        for layer in self.encoder:
            hidden = layer(hidden)
        memory = self.norm(hidden).transpose(1, 2).contiguous()  # (B, N, T, D)
        places = surroundings(graph, buckets=BUCKETS, near=self.near)
        calendar = self._calendar(window, slice(self.shape.window, None))
        state = self.ahead.weight + calendar[:, None] + (self.sensors() + self.last(memory[:, :, -1]))[:, :, None]
        graphs = []
        for layer in self.layers:
            if watch:
                graphs.append(cast(CrossLayer, layer).alignment.graph(state, memory, places))
            state = layer(state, memory, places)
        return state.transpose(1, 2), graphs

    def _calendar(self, window: Window, steps: slice) -> Tensor:
        """(B, steps, D): the row of the slot and the row of the day."""
        return self.calendar(window, steps).unflatten(-1, (2, -1)).sum(-2)
