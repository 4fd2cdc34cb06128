"""MTGNN: inception convolutions along time and mix-hop propagation over a learned directed graph."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.adaptive_graph import DirectedGraph, gather
from st_pipeline.layers.calendar_inputs import with_calendar
from st_pipeline.layers.dilated_conv import DilatedConv, at_least, receptive_field
from st_pipeline.layers.hop_conv import HopConv, Move
from st_pipeline.layers.inception_conv import KERNELS, LONGEST, GatedInception
from st_pipeline.layers.network_norm import NetworkNorm
from st_pipeline.models.options import check_least
from st_pipeline.models.skip_network import SkipNetwork
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class MTGNN(SkipNetwork):
    """Layers of inception convolution, mix-hop propagation and normalisation, each with a say in the forecast.

    (Wu et al. 2020, arXiv 2005.11650.)

    The graph is learned; the given one is not used. Windows shorter than what the convolutions reach begin with zeros.
    The time of day is an input channel. What the inputs say without a layer between, un-prompted, is part of the deep
    representation. The published curriculum, which trains on ever longer horizons, is left out.

    Args:
        layers: how many.
        dilation: factor from one layer's dilation to the next.
        hidden: width of the layers, a multiple of the 4 kernels of a convolution.
        skip: width of what they add up to.
        end: width of the head.
        embedding: width of the embeddings of nodes that the graph is made of.
        neighbours: weights that a row of the graph keeps.
        order: steps of a propagation.
        keep: share of a node's own features in every step of a propagation.
        dropout: of the inputs' own say, and behind every convolution.

    Raises:
        InputError: a size below 1, a hidden width that the kernels do not divide, or a share outside 0 to 1.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        layers: int = 3,
        dilation: int = 1,
        hidden: int = 32,
        skip: int = 64,
        end: int = 128,
        embedding: int = 40,
        neighbours: int = 20,
        order: int = 2,
        keep: float = 0.05,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        sizes = {"layers": layers, "dilation": dilation, "hidden": hidden, "skip": skip, "end": end}
        _check({**sizes, "embedding": embedding, "neighbours": neighbours, "order": order}, keep, dropout)
        self.shape = shape
        self.hidden = hidden
        dilations = [dilation**layer for layer in range(layers)]
        reached = [receptive_field(LONGEST, dilations[: layer + 1]) for layer in range(layers)]
        self.span = max(shape.window, reached[-1])  # steps with the zeros in front
        self.left = left = [self.span - steps + 1 for steps in reached]  # of the window behind each layer
        self.start = nn.Linear(shape.channels + 1, hidden)
        self.learner = DirectedGraph(shape.num_nodes, embedding, neighbours=neighbours)
        self.convolutions = nn.ModuleList(GatedInception(hidden, hidden, dilation=factor) for factor in dilations)
        self.skips = nn.ModuleList(DilatedConv(hidden, skip, kernel=steps) for steps in left)
        self.forward_hops, self.backward_hops = (
            nn.ModuleList(HopConv(hidden, hidden, order=order, keep=keep) for _ in dilations) for _ in range(2)
        )
        self.norms = nn.ModuleList(NetworkNorm(shape.num_nodes, steps, hidden) for steps in left)
        self.skip_first = DilatedConv(shape.channels + 1, skip, kernel=self.span)
        self.skip_last = DilatedConv(hidden, skip, kernel=left[-1])
        self.dropout = nn.Dropout(dropout)
        self.end1 = nn.Linear(skip, end)
        self.end2 = nn.Linear(end, shape.horizon)

    @property
    def working_width(self) -> int:
        """All steps that each layer gives, for itself and along and against the graph, and the head."""
        steps = self.span + 3 * sum(self.left)
        return self.hidden * steps + self.head_width

    def inputs(self, window: Window) -> Tensor:
        """(B, S, N, C + 1)."""
        return at_least(with_calendar(window, self.shape, week=False), self.span)

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, S, N, hidden)."""
        found: Tensor = self.start(self.inputs(window))
        return found

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, skip): the sum of what the inputs, every layer and the last one's outcome say."""
        along, against = self.moves()
        x, said = hidden, [self.skip_first(self.dropout(self.inputs(window)))]
        parts = zip(self.convolutions, self.skips, self.forward_hops, self.backward_hops, self.norms, strict=True)
        for convolution, skip, forward, backward, norm in parts:
            found = self.dropout(convolution(x))
            said.append(skip(found))
            x = norm(x[:, -found.shape[1] :] + (forward(found, along) + backward(found, against)))
        said.append(self.skip_last(x))
        return torch.cat(said, dim=1).sum(1)

    def moves(self) -> tuple[Move, Move]:
        """One step along the learned graph and one against it, both with loops and rows of sum 1."""
        adjacency = self.learner()
        loops = torch.eye(len(adjacency), dtype=adjacency.dtype, device=adjacency.device)
        both = (adjacency + loops, adjacency.t() + loops)
        along, against = (partial(gather, matrix / matrix.sum(1, keepdim=True)) for matrix in both)
        return along, against


def _check(sizes: dict[str, int], keep: float, dropout: float) -> None:
    check_least("mtgnn", **sizes)
    if sizes["hidden"] % len(KERNELS):
        raise InputError(
            f"backbone 'mtgnn': hidden is {sizes['hidden']}, expected a multiple of {len(KERNELS)}, the kernels of a "
            "convolution"
        )
    for name, share in {"keep": keep, "dropout": dropout}.items():
        if not 0 <= share < 1:
            raise InputError(f"backbone 'mtgnn': {name} is {share}, expected a share from 0 to below 1")
