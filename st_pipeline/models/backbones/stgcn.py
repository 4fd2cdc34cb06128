"""STGCN: spectral graph convolutions between gated convolutions along time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.chebyshev import ChebConv
from st_pipeline.layers.dilated_conv import DilatedConv, at_least
from st_pipeline.layers.network_norm import NetworkNorm
from st_pipeline.models.base import Forecaster
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window


@BACKBONES.register
class STGCN(Forecaster):
    """Blocks of gated convolution, graph convolution and gated convolution (Yu, Yin and Zhu 2018, arXiv 1709.04875).

    The embedding is what the first gated convolution gives. Every convolution along time shortens the window; the head
    convolves over all steps that are left, and forecasts the whole horizon at once. Windows shorter than what the
    blocks need begin with zeros. The readings are the only inputs.

    Args:
        blocks: how many.
        hidden: width of the gated convolutions.
        spatial: width of the graph convolutions between them.
        output: width of the head.
        kernel: steps of a convolution along time.
        dropout: behind every block.

    Raises:
        InputError: a size below 1, or a dropout outside 0 to 1.
    """

    def __init__(
        self,
        shape: SeriesShape,
        *,
        blocks: int = 2,
        hidden: int = 64,
        spatial: int = 16,
        output: int = 128,
        kernel: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        sizes = {"blocks": blocks, "hidden": hidden, "spatial": spatial, "output": output, "kernel": kernel}
        _check(sizes, dropout)
        self.shape = shape
        self.hidden = hidden
        self.span = max(shape.window, 2 * blocks * (kernel - 1) + 1)  # steps with the zeros in front
        self.kernel = kernel
        inputs = [shape.channels] + [hidden] * (blocks - 1)
        self.inward = nn.ModuleList(LinearGate(width, hidden, kernel) for width in inputs)
        self.graphs = nn.ModuleList(SpatialConv(hidden, spatial) for _ in inputs)
        self.outward = nn.ModuleList(LinearGate(spatial, hidden, kernel) for _ in inputs)
        self.norms = nn.ModuleList(NetworkNorm(shape.num_nodes, hidden) for _ in inputs)
        self.dropout = nn.Dropout(dropout)
        self.collapse = LinearGate(hidden, output, self.steps)
        self.norm = NetworkNorm(shape.num_nodes, output)
        self.fc1 = nn.Linear(output, output)
        self.fc2 = nn.Linear(output, shape.horizon)

    @property
    def steps(self) -> int:
        """What the blocks leave of a window."""
        return self.span - 2 * len(self.inward) * (self.kernel - 1)

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.span - self.kernel + 1, self.hidden)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.steps, self.hidden)

    @property
    def working_width(self) -> int:
        """All steps that each gated convolution gives, and the head."""
        left = [self.span - (place + 1) * (self.kernel - 1) for place in range(2 * len(self.inward))]
        return self.hidden * sum(left) + self.fc1.out_features + self.fc2.out_features

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, S, N, hidden)."""
        found: Tensor = self.inward[0](at_least(window.values, self.span))
        return found

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, steps, N, hidden)."""
        for place, (spatial, outward, norm) in enumerate(zip(self.graphs, self.outward, self.norms, strict=True)):
            x = self.inward[place](hidden) if place else hidden
            hidden = self.dropout(norm(outward(spatial(x, graph))))
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        x = self.norm(self.collapse(hidden)).squeeze(1)  # (B, 1, N, output) -> (B, N, output)
        forecast: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return forecast.transpose(1, 2)


class Aligned(nn.Module):
    """Features in another number: a linear map to fewer, zeros behind them for more, themselves for as many."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.linear = nn.Linear(inputs, outputs) if inputs > outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if self.linear is None:
            return nn.functional.pad(x, (0, self.outputs - x.shape[-1]))
        found: Tensor = self.linear(x)
        return found


class LinearGate(nn.Module):
    """(P + x) * sigmoid(Q), P and Q convolutions of x along time, x aligned with their last steps."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.align = Aligned(inputs, outputs)
        self.conv = DilatedConv(inputs, 2 * outputs, kernel=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, inputs) -> (B, T - kernel + 1, N, outputs)."""
        signal, gate = self.conv(x.contiguous()).chunk(2, dim=-1)
        return (signal + self.align(x[:, self.kernel - 1 :])) * torch.sigmoid(gate)


class SpatialConv(nn.Module):
    """relu(z + sum_k T_k(L) z W_k + b), z being x aligned with the width of the graph convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.align = Aligned(inputs, outputs)
        self.conv = ChebConv(outputs, outputs, laplacian=True)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(B, T, N, inputs) -> (B, T, N, outputs); of the graph's two directions the mean is taken."""
        z = self.align(x).movedim(-2, 0).contiguous().movedim(0, -2)  # nodes first in memory
        return torch.relu(z + self.conv(z, graph.undirected))


def _check(sizes: dict[str, int], dropout: float) -> None:
    check_least("stgcn", **sizes)
    if not 0 <= dropout < 1:
        raise InputError(f"backbone 'stgcn': dropout is {dropout}, expected a share from 0 to below 1")
