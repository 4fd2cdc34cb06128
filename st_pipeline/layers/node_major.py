"""Working on tensors (B, N, ...) whose memory has nodes first, as windows are cut, without turning them around."""

from __future__ import annotations

from torch import Tensor, nn


def per_node(values: Tensor) -> Tensor:
    """What a window says of each node: (B, T, N, C) -> (B, N, C * T), channel by channel."""
    batch, steps, nodes, channels = values.shape
    return values.permute(2, 0, 3, 1).reshape(nodes, batch, channels * steps).transpose(0, 1)


def by_node(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on (B, N, F), as one product."""
    rows = x.transpose(0, 1)
    return (
        nn.functional.linear(rows.reshape(-1, rows.shape[-1]), layer.weight, layer.bias)
        .view(*rows.shape[:-1], -1)
        .transpose(0, 1)
    )
