"""ASTGCN, recent branch: graph and time convolutions whose graph is weighted by an attention of the window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.bilinear_attention import SensorAttention, StepAttention
from st_pipeline.layers.diffusion_conv import chebyshev_terms
from st_pipeline.layers.sequence import TimeConv
from st_pipeline.models.flat_window import FlatWindow
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class ASTGCN(FlatWindow):
    """Blocks of two attentions and two convolutions on the recent window (Guo et al., AAAI 2019).

    The published model has a second and a third branch for the windows a day and a week ago, which are not here;
    seasonal lags of the target are channels of this one.

    Args:
        filters: of both convolutions.
        blocks: how many.
        order: Chebyshev polynomials T_0, T_1, ... of the graph convolution.
        rank: of the (N, N) parameters, which cannot grow row by row and are products of two node tables.
        attended: the graph convolution reads the series that the attention over steps gives, as the paper has it; in
            the published code that series only serves the attention over sensors, and the convolution reads x itself.

    Raises:
        InputError: an option below 1.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        filters: int = 64,
        blocks: int = 2,
        order: int = 3,
        rank: int = 10,
        attended: bool = False,
    ) -> None:
        super().__init__()
        check_least("astgcn", filters=filters, blocks=blocks, order=order, rank=rank)
        self.shape = shape
        self.filters = filters
        self.order = order
        self.attended = attended
        self.blocks = nn.ModuleList(
            AttentionBlock(shape, filters if place else shape.channels, filters, order=order, rank=rank)
            for place in range(blocks)
        )
        self.fc = nn.Linear(shape.window * filters, shape.horizon)

    @property
    def working_width(self) -> int:
        """What the convolutions of all steps and the attentions of all sensors keep."""
        return max(self.shape.horizon, len(self.blocks) * (self.fc.in_features + self.shape.num_nodes))

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.window, self.filters)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, filters)."""
        polynomials = chebyshev(graph, self.order, like=hidden)
        x = hidden.unflatten(-1, (-1, self.shape.window)).transpose(2, 3)  # (B, N, T, C)
        for block in self.blocks:
            x = block(x, polynomials, attended=self.attended)
        return x.transpose(1, 2)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, H, N)."""
        out: Tensor = self.fc(hidden.transpose(1, 2).flatten(2))  # (B, T, N, F) -> (B, N, T * F)
        return out.transpose(1, 2)


class AttentionBlock(nn.Module):
    """norm(relu(time_conv(relu(sum_k (T_k * S) x W_k)) + x W)), S from the attended steps x E."""

    def __init__(self, shape: SeriesShape, inputs: int, filters: int, *, order: int, rank: int) -> None:
        super().__init__()
        self.steps = StepAttention(shape.num_nodes, channels=inputs, steps=shape.window)
        self.sensors = SensorAttention(shape.num_nodes, channels=inputs, steps=shape.window, rank=rank)
        self.weight = nn.Linear(order * inputs, filters, bias=False)
        self.time_conv = TimeConv(filters)
        self.residual = nn.Linear(inputs, filters)
        self.norm = nn.LayerNorm(filters)

    def forward(self, x: Tensor, polynomials: list[Tensor], *, attended: bool) -> Tensor:
        """(B, N, T, C) and K times (N, N) -> (B, N, T, filters)."""
        steps = self.steps(x).unsqueeze(1) @ x
        sensors = self.sensors(steps)
        source = (steps if attended else x).flatten(2)  # (B, N, T * C)
        own = sensors.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * source  # T_0 is the identity
        terms = [own, *((polynomial * sensors) @ source for polynomial in polynomials)]
        gathered = torch.cat([term.view(x.shape) for term in terms], dim=-1)
        h = torch.relu(self.weight(gathered))
        h = self.time_conv(h.flatten(0, 1)).view(h.shape)
        out: Tensor = self.norm(torch.relu(h + self.residual(x)))
        return out


def chebyshev(graph: Graph, order: int, *, like: Tensor) -> list[Tensor]:
    """T_1 to T_(order - 1) of the scaled Laplacian, (N, N) each.

    That of 1 - D^-1/2 A D^-1/2, with 2 as its largest eigenvalue and A made symmetric: -D^-1/2 A D^-1/2.
    """
    operator = graph.undirected.operator("symmetric")
    one = torch.eye(graph.num_nodes, dtype=like.dtype, device=like.device)
    return chebyshev_terms(one, lambda x: -operator(x), order - 1)[1:]
