"""Graph WaveNet: dilated convolutions along time and diffusion over given and learned graphs."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.adaptive_graph import AdaptiveGraph, gather
from st_pipeline.layers.calendar_inputs import with_calendar
from st_pipeline.layers.dilated_conv import GatedConv, at_least, doubling, receptive_field
from st_pipeline.layers.hop_conv import HopConv, Move
from st_pipeline.models.options import check_least
from st_pipeline.models.skip_network import SkipNetwork
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

KERNEL = 2  # of the convolutions along time
ORDER = 2  # powers of every graph


@BACKBONES.register
class GraphWaveNet(SkipNetwork):
    """Layers of gated convolution along time and diffusion over graphs, each with a say in the forecast.

    (Wu et al. 2019, arXiv 1906.00121.)

    The graphs are the given one, its reverse, and a learned one. The window is cut, or filled with zeros in front, to
    the steps that the convolutions reach, of which the last layer leaves one. The time of day is an input channel. The
    batch's windows share the statistics of the normalisation in training. The last layer has no diffusion, as nothing
    behind it would see it.

    Args:
        blocks: of layers, whose dilations are 1, 2, 4, ...
        layers: of a block.
        hidden: width of the layers.
        skip: width of what they add up to.
        end: width of the head.
        adaptive: width of the embeddings of nodes that the learned graph is made of; 0 leaves the graph out.
        dropout: behind every diffusion.

    Raises:
        InputError: a size below 1, or a dropout outside 0 to 1.
    """

    separable = False

    def __init__(
        self,
        shape: SeriesShape,
        *,
        blocks: int = 4,
        layers: int = 2,
        hidden: int = 32,
        skip: int = 256,
        end: int = 512,
        adaptive: int = 10,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        _check({"blocks": blocks, "layers": layers, "hidden": hidden, "skip": skip, "end": end}, adaptive, dropout)
        self.shape = shape
        self.hidden = hidden
        self.dilations = dilations = doubling(blocks, layers)
        self.span = receptive_field(KERNEL, dilations)
        self.start = nn.Linear(shape.channels + 1, hidden)
        self.convolutions = nn.ModuleList(
            GatedConv(hidden, hidden, kernel=KERNEL, dilation=dilation) for dilation in dilations
        )
        self.skips = nn.ModuleList(nn.Linear(hidden, skip) for _ in dilations)
        graphs = 3 if adaptive else 2
        self.diffusions = nn.ModuleList(HopConv(hidden, hidden, graphs=graphs, order=ORDER) for _ in dilations[1:])
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in dilations[1:])
        self.adaptive = AdaptiveGraph(shape.num_nodes, adaptive) if adaptive else None
        self.dropout = nn.Dropout(dropout)
        self.end1 = nn.Linear(skip, end)
        self.end2 = nn.Linear(end, shape.horizon)

    @property
    def working_width(self) -> int:
        """All steps that each layer gives, once for each graph, and the head."""
        left = [self.span - reached for reached in accumulate(self.dilations)]
        steps = self.span + (2 if self.adaptive is None else 3) * sum(left)
        return self.hidden * steps + self.head_width

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, S, N, hidden), S being the steps that the convolutions reach."""
        values = with_calendar(window, self.shape, week=False)
        found: Tensor = self.start(at_least(values, self.span)[:, -self.span :])
        return found

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, skip): the sum of what every layer says at the last step."""
        moves = self.moves(graph)
        x, said = hidden, []
        for place, (convolution, skip) in enumerate(zip(self.convolutions, self.skips, strict=True)):
            found = convolution(x.contiguous())
            said.append(skip(found[:, -1]))
            if place < len(self.diffusions):
                found = self.dropout(self.diffusions[place](found, *moves))
                x = x[:, -found.shape[1] :] + found
                x = self.norms[place](x.flatten(0, 2)).view(x.shape)
        return torch.stack(said).sum(0)

    def moves(self, graph: Graph) -> list[Move]:
        """One step along each graph."""
        learned = [] if self.adaptive is None else [partial(gather, self.adaptive())]
        return [graph.propagate, graph.reversed.propagate, *learned]


def _check(sizes: dict[str, int], adaptive: int, dropout: float) -> None:
    check_least("graph_wavenet", **sizes)
    check_least("graph_wavenet", 0, adaptive=adaptive)
    if not 0 <= dropout < 1:
        raise InputError(f"backbone 'graph_wavenet': dropout is {dropout}, expected a share from 0 to below 1")
