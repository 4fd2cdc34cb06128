"""StemGNN: a graph learned from the window itself, and what its polynomials look like in the frequencies of time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.spectral_block import GATES, SpectralBlock, graph_terms
from st_pipeline.models.flat_window import FlatWindow
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

TERMS = 4  # Chebyshev polynomials
LEAK = 0.2  # slope below zero of the attention's scores


@BACKBONES.register
class StemGNN(FlatWindow):
    """Forecasts of spectral blocks, each of which reads what the one before left over (Cao et al., NeurIPS 2020).

    The graph: R = GRU over the sensors, in the order of the node set, whose inputs are their windows; scores s_ij =
    leaky(R_i k + R_j q), A = softmax over j, L = 1 - (A + A^T) / 2. The given graph is not used. With `along: node`
    the forecast depends on the order of the sensors, as the published one does.

    The published code shares one graph, the mean, among the windows of a batch; here each window has its own, so that
    a forecast is the same in any batch. Its GRU has as many units as there are sensors, which cannot grow, and its
    attention then compares units in place of sensors; here R is a row per sensor.

    Args:
        units: of the GRU; published as many as sensors, 207 at METR-LA.
        blocks: spectral blocks.
        multiple: width of a block in windows.
        dropout: of the learned graph.
        identity: T_0 of the polynomials is the identity; published it is zero.
        along: what the GRU runs over; with `time`, each sensor's own steps, the order of the sensors is of no matter.

    Raises:
        InputError: an option out of its range.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        units: int = 207,
        blocks: int = 2,
        multiple: int = 5,
        dropout: float = 0.5,
        identity: bool = False,
        along: Literal["node", "time"] = "node",
    ) -> None:
        super().__init__()
        check_least("stemgnn", units=units, blocks=blocks, multiple=multiple)
        if not 0 <= dropout < 1:
            raise InputError(f"backbone 'stemgnn': dropout is {dropout}, expected at least 0 and below 1")
        self.shape = shape
        self.equivariant = along == "time"
        self.multiple = multiple
        self.identity = identity
        self.gru = nn.GRU(shape.channels if along == "time" else self.width, units)
        self.scores = nn.Linear(units, 2, bias=False)  # k and q
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            SpectralBlock(
                terms=TERMS,
                series=1 if place else shape.channels,
                steps=shape.window,
                multiple=multiple,
                backcast=place < blocks - 1,
            )
            for place in range(blocks)
        )
        self.out = nn.Sequential(
            nn.Linear(shape.window, shape.window), nn.LeakyReLU(), nn.Linear(shape.window, shape.horizon)
        )

    @property
    def working_width(self) -> int:
        """The gates of all blocks, the states of the GRU, and a row of the learned graph."""
        gates = 2 * GATES * TERMS * self.multiple * self.shape.window * len(self.blocks)
        states = self.gru.hidden_size * (self.shape.window if self.equivariant else 1)
        return max(self.shape.horizon, gates + states + self.shape.num_nodes)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.window,)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, T): the sum of the blocks' forecasts."""
        laplacian = torch.eye(hidden.shape[1], device=hidden.device) - self.learned_graph(hidden)
        forecasts = []
        for block in self.blocks:
            forecast, hidden = block(graph_terms(laplacian, hidden, identity=self.identity), hidden)
            forecasts.append(forecast)
        return torch.stack(forecasts).sum(0)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, H, N)."""
        out: Tensor = self.out(hidden)
        return out.transpose(1, 2)

    def learned_graph(self, hidden: Tensor) -> Tensor:
        """(A + A^T) / 2 of each window, (B, N, C * T) -> (B, N, N); outside training A has rows of sum 1."""
        key, query = self.scores(self.represent(hidden)).split(1, dim=-1)  # (B, N, 1) each
        scores = nn.functional.leaky_relu(key + query.transpose(1, 2), LEAK)
        attention = self.dropout(scores.softmax(-1))
        return (attention + attention.transpose(1, 2)) / 2

    def represent(self, hidden: Tensor) -> Tensor:
        """R (B, N, units)."""
        if not self.equivariant:
            return self.gru(hidden.transpose(0, 1))[0].transpose(0, 1)
        steps = hidden.unflatten(-1, (-1, self.shape.window)).permute(3, 0, 1, 2)  # (T, B, N, C)
        return self.gru(steps.flatten(1, 2))[1].view(*hidden.shape[:2], -1)
