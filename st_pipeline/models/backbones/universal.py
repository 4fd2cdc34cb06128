"""The six backbones of EAC's universality table: two graph convolutions times three temporal operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.chebyshev import ChebConv
from st_pipeline.layers.graph_conv import GraphConv
from st_pipeline.layers.hidden_conv import HiddenConv
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.sequence import Along, Recurrence, SelfAttention, TimeConv
from st_pipeline.layers.symmetric_conv import SymmetricConv
from st_pipeline.models.flat_window import FlatWindow
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

HEADS = 4
CONVOLUTIONS: dict[tuple[str, bool], Callable[[int, int], nn.Module]] = {  # by kind, and whether as published
    ("spatial", True): GraphConv,
    ("spatial", False): SymmetricConv,
    ("spectral", True): partial(ChebConv, laplacian=False),
    ("spectral", False): partial(ChebConv, laplacian=True),
}
OPERATORS: dict[tuple[str, bool], Callable[[int], nn.Module]] = {
    ("convolution", True): lambda _: HiddenConv(),
    ("convolution", False): lambda hidden: Along(TimeConv(hidden), "time"),
    ("recurrence", True): lambda hidden: Along(Recurrence(hidden), "node"),
    ("recurrence", False): lambda hidden: Along(Recurrence(hidden), "time"),
    ("attention", True): lambda hidden: Along(SelfAttention(hidden, heads=HEADS), "window"),
    ("attention", False): lambda hidden: Along(SelfAttention(hidden, heads=HEADS), "time"),
}


@BACKBONES.register
class Universal(FlatWindow):
    """out = fc(GELU(gcn2(temporal(ReLU(gcn1(X + P)))) + X)), X in the residual being the un-prompted target.

    Published, as EAC's public code wires it, the window's steps are the features of a node, the convolution runs
    along the hidden axis, the LSTM along the nodes and the attention along the windows of a batch: a forecast then
    depends on the order of the nodes or on the rest of the batch. Otherwise it is what the paper describes
    (Appendix D): the graph convolutions are applied to every time step, the first from the channels to the hidden
    width, the second to one number, and the temporal operator runs along time.

    Args:
        graph: `spatial`, the adjacency's neighbours, or `spectral`, Chebyshev polynomials of order 3.
        temporal: what lies between the two graph convolutions.
        hidden: width of the hidden layer, with attention a multiple of its 4 heads.
        published: the public code's wiring, or the paper's.

    Raises:
        InputError: attention whose heads do not divide the hidden width.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        graph: Literal["spatial", "spectral"] = "spatial",
        temporal: Literal["convolution", "recurrence", "attention"] = "convolution",
        hidden: int = 64,
        published: bool = True,
    ) -> None:
        super().__init__()
        if temporal == "attention" and hidden % HEADS:
            raise InputError(
                f"backbone 'universal': hidden is {hidden}, expected a multiple of {HEADS}, the heads of its "
                "attention; change it or take another temporal operator"
            )
        self.shape = shape
        self.separable = not (published and temporal == "attention")
        self.steps = 1 if published else shape.window  # that the network sees one by one
        self.hidden = hidden
        convolution = CONVOLUTIONS[graph, published]
        self.gcn1 = convolution(self.width // self.steps, hidden)
        self.temporal = OPERATORS[temporal, published](hidden)
        self.gcn2 = convolution(hidden, shape.window // self.steps)
        self.fc = nn.Linear(shape.window, shape.horizon)

    @property
    def working_width(self) -> int:
        """The hidden layer of all steps and a copy of one, or what the operator keeps of it, e.g. an LSTM's gates."""
        widest = max(len(parameter) for parameter in self.temporal.parameters())
        return max(self.hidden * (self.steps + 1), widest * self.steps)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.window,)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, T)."""
        x = hidden.unflatten(-1, (-1, self.steps)).permute(0, 3, 1, 2)  # (B, steps, N, features of a step)
        x = self.gcn2(self.temporal(torch.relu(self.gcn1(x, graph))), graph)
        deep = x.permute(0, 2, 3, 1).flatten(2)
        return deep + window.values[..., 0].transpose(1, 2)  # (B, T, N) -> (B, N, T)

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.fc, nn.functional.gelu(hidden)).transpose(1, 2)  # (B, N, H) -> (B, H, N)
