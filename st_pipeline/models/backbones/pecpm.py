"""PECPM's network: gates, the calendar of the window, and a bank of patterns whose attention is taught."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.graph_conv import GraphConv
from st_pipeline.layers.hidden_conv import HiddenConv
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.pattern_memory import AttentionLabels, PatternMemory
from st_pipeline.models.base import Criterion
from st_pipeline.models.flat_window import FlatWindow
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Target, Window

DAYS_PER_WEEK = 7


@BACKBONES.register
class PECPM(FlatWindow):
    """out = fc(GELU(Z + X + softmax(Z M^T) M)) with a bank M (PECPM, KDD 2023, as its public code has it).

    H = gate1(tcn1(ReLU(gcn1(X + P) + w3 C))) and Z = gate2(tcn2(gcn2(H))), where a gate is x sigmoid(W x + b), both
    convolutions run along the features of a node, and C holds the time of day and the day of the week of each of the
    window's steps, as fractions of the day and of the week. X in the residual is the un-prompted target. 9,996
    parameters for 12 -> 12 steps of one channel.

    In training, `attention_labels` may say what the attention softmax(Z M^T) of each node should be; their mean
    squared difference, times beta, is then part of the training loss.

    Args:
        patterns: rows of M.
        hidden: width of the hidden layer.
        beta: weight of the attention's loss.

    Raises:
        InputError: beta is negative.
    """

    hops = 2

    attention_labels: AttentionLabels | None

    def __init__(self, shape: SeriesShape, *, patterns: int = 64, hidden: int = 64, beta: float = 1.0) -> None:
        super().__init__()
        if beta < 0:
            raise InputError(f"backbone 'pecpm': beta is {beta}, expected 0 or more")
        self.shape = shape
        self.beta = beta
        self.attention_labels = None
        self.gcn1 = GraphConv(shape.window * shape.channels, hidden)
        self.calendar = nn.Linear(2 * shape.window, hidden)
        self.tcn1 = HiddenConv()
        self.gate1 = nn.Linear(hidden, hidden)
        self.gcn2 = GraphConv(hidden, shape.window)
        self.tcn2 = HiddenConv()
        self.gate2 = nn.Linear(shape.window, shape.window)
        self.memory = PatternMemory(patterns, shape.window, read="softmax")
        self.fc = nn.Linear(shape.window, shape.horizon)

    @property
    def working_width(self) -> int:
        return super().working_width + len(self.memory)  # the attention is kept as well

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.window,)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, T)."""
        return self._matched(hidden, window, graph)[1]

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.fc, nn.functional.gelu(hidden)).transpose(1, 2)  # (B, N, H) -> (B, H, N)

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        """The forecast's loss, with that of the attention where labels are set."""
        attention, hidden = self._matched(self.embed(window, graph), window, graph)
        loss = criterion(self.head(hidden), target)
        if self.attention_labels is None or not self.beta:
            return loss
        return loss + self.beta * _attention_loss(attention, self.attention_labels)

    def _matched(self, hidden: Tensor, window: Window, graph: Graph) -> tuple[Tensor, Tensor]:
        """Attention to the patterns (B, N, M), and what the head reads (B, N, T)."""
        both = torch.cat([graph.propagate(hidden), hidden], dim=-1).transpose(0, 1)  # (N, B, 2 F), as memory has it
        x = torch.relu(nn.functional.linear(both, *self.gcn1.stacked()) + self.calendar(self._when(window)))
        x = _gated(x, self.tcn1, self.gate1)
        mixed = nn.functional.linear(x, torch.cat([self.gcn2.neighbour.weight, self.gcn2.own.weight]))
        gathered, own = mixed.transpose(0, 1).chunk(2, dim=-1)
        z = graph.propagate(gathered) + self.gcn2.neighbour.bias + own
        deep = _gated(z.transpose(0, 1), self.tcn2, self.gate2).transpose(0, 1)
        attention, read = self.memory(deep)
        return attention, deep + window.values[..., 0].transpose(1, 2) + read  # (B, T, N) -> (B, N, T)

    def _when(self, window: Window) -> Tensor:
        """(B, 2 T): step by step, how much of the day has passed, and how much of the week's days."""
        steps = self.shape.window
        of_day = window.time_of_day[:, :steps] / self.shape.steps_per_day
        of_week = window.day_of_week[:, :steps] / DAYS_PER_WEEK
        return torch.stack([of_day, of_week], dim=-1).flatten(1)


def _gated(x: Tensor, conv: HiddenConv, gate: nn.Linear) -> Tensor:
    """c sigmoid(W c + b) of the convolution c of x: (..., D) -> (..., D); both of them are one product."""
    width = gate.in_features
    weight, bias = conv.before(torch.cat([torch.eye(width).to(gate.weight), gate.weight]))
    opened, closed = nn.functional.linear(x, weight, bias + nn.functional.pad(gate.bias, (width, 0))).chunk(2, dim=-1)
    return opened * torch.sigmoid(closed)


def _attention_loss(attention: Tensor, labels: AttentionLabels) -> Tensor:
    """Mean squared difference over windows, nodes that have a label, and patterns."""
    by_cell = (attention - labels.values).square().mean((0, 2))  # (N,)
    return (by_cell * labels.known).sum() / labels.known.sum().clamp(min=1)
