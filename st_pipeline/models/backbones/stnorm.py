"""ST-Norm: gated dilated convolutions that see their input as it is and normalised along time and across nodes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from st_pipeline.layers.calendar_inputs import with_calendar
from st_pipeline.layers.dilated_conv import GatedConv, at_least, doubling, receptive_field
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.series_norm import SpatialNorm, TemporalNorm
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class STNorm(Forecaster):
    """WaveNet without a graph, each convolution over [x | TNorm(x) | SNorm(x)] (Deng et al., KDD 2021).

    The inputs of a step are its readings and its time of day. Every layer shortens the window; what the head reads is
    the sum over the layers of a linear map of their last step. A window shorter than the receptive field begins with
    zeros, and of a longer one only the last steps count. TNorm's statistics are those of the batch in training: a
    batch cannot be worked on in pieces. 222,700 parameters for 207 sensors and 12 -> 12 steps of one channel.

    Args:
        hidden: width of all layers.
        kernel: taps of a convolution.
        blocks: how many; the dilations begin with 1 in each.
        layers: layers of a block, of dilations 1, 2, 4, ...
        temporal: whether convolutions see TNorm(x).
        spatial: whether convolutions see SNorm(x).

    Raises:
        InputError: a size below 1, or a kernel below 2.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        hidden: int = 32,
        kernel: int = 2,
        blocks: int = 4,
        layers: int = 2,
        temporal: bool = True,
        spatial: bool = True,
    ) -> None:
        super().__init__()
        check_least("stnorm", hidden=hidden, blocks=blocks, layers=layers)
        check_least("stnorm", 2, kernel=kernel)
        self.shape = shape
        self.separable = not temporal
        dilations = doubling(blocks, layers)
        self.steps = max(shape.window, receptive_field(kernel, dilations))
        self.start = nn.Linear(shape.channels + 1, hidden)
        self.layers = nn.ModuleList(
            Layer(shape.num_nodes, hidden, kernel=kernel, dilation=dilation, temporal=temporal, spatial=spatial)
            for dilation in dilations
        )
        self.skips = nn.ModuleList(nn.Linear(hidden, hidden) for _ in dilations)
        self.residuals = nn.ModuleList(nn.Linear(hidden, hidden) for _ in dilations[1:])
        self.fc1 = nn.Linear(hidden, hidden)
        self.fc2 = nn.Linear(hidden, shape.horizon)

    @property
    def width(self) -> int:
        return self.fc1.in_features

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.steps, self.width)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def working_width(self) -> int:
        """The steps that each layer reads."""
        return self.steps * self.width * len(self.layers)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, S, N, hidden), S the window or the receptive field."""
        inputs = at_least(with_calendar(window, self.shape, week=False), self.steps)
        return cast(Tensor, self.start(inputs.contiguous()))  # steps before nodes in memory, as convolutions read them

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, hidden): the sum of what the layers say in the last step."""
        found = []
        for place, (layer, skip) in enumerate(zip(self.layers, self.skips, strict=True)):
            x = layer(hidden)
            found.append(skip(x[:, -1]))
            if place < len(self.residuals):
                hidden = self.residuals[place](x) + hidden[:, -x.shape[1] :]
        return torch.stack(found).sum(0)

    def head(self, hidden: Tensor) -> Tensor:
        out = by_node(self.fc2, torch.relu(by_node(self.fc1, torch.relu(hidden))))
        return out.transpose(1, 2)  # (B, N, H) -> (B, H, N)


class Layer(nn.Module):
    """A gated dilated convolution over [x | TNorm(x) | SNorm(x)], or without what is switched off."""

    def __init__(
        self, num_nodes: int, width: int, *, kernel: int, dilation: int, temporal: bool, spatial: bool
    ) -> None:
        super().__init__()
        kept = ([TemporalNorm(num_nodes, width)] if temporal else []) + ([SpatialNorm(width)] if spatial else [])
        self.norms = nn.ModuleList(kept)
        self.conv = GatedConv((1 + len(kept)) * width, width, kernel=kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, width) -> (B, T - (kernel - 1) dilation, N, width)."""
        out: Tensor = self.conv(torch.cat([x, *(norm(x) for norm in self.norms)], dim=-1))
        return out
