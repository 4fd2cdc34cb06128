"""A gated recurrent unit whose matrix products are graph convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

Map = Callable[[Tensor], Tensor]


class GraphLayer(Protocol):
    """A layer that works on a graph, or whatever else its kind depends on: its context."""

    def bind(self, *context: Any) -> Map:
        """The layer in one context: (B, ..., N, F) -> (B, ..., N, F')."""


class GraphGRU(nn.Module):
    """[r, u] = sigmoid(G * [x, h]), c = tanh(C * [x, r h]), h' = u h + (1 - u) c, with graph convolutions G and C.

    (DCRNN's DCGRU; AGCRN and HimNet have the same unit, with z for r and r for u.) What a convolution of [x, h] makes
    of x and of h is a sum of two: here x has a layer of its own, so that a whole series of inputs is convolved at once.
    The layers are `GraphLayer`s.

    Args:
        inputs: layer from the width of x to 3 D, with a bias: what r, u and c take of x, in this order.
        gates: layer from D to 2 D without bias: what r and u take of h.
        candidate: layer from D to D without bias: what c takes of r h.
    """

    def __init__(self, inputs: nn.Module, gates: nn.Module, candidate: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.gates = gates
        self.candidate = candidate

    def forward(self, x: Tensor, *context: Any, state: Tensor | None = None) -> Tensor:
        """(B, T, N, F) -> (B, T, N, D): the states after every step, from a state (B, N, D) or from 0."""
        return self.bind(*context).run(x, state)

    def bind(self, *context: Any) -> BoundGRU:
        """The unit in one context, for steps that are taken one by one."""
        layers = (self.inputs, self.gates, self.candidate)
        return BoundGRU(*(cast(GraphLayer, layer).bind(*context) for layer in layers))


@dataclass(frozen=True)
class BoundGRU:
    """The unit with all that it depends on but x and h; the layers of `GraphGRU`."""

    inputs: Map
    gates: Map
    candidate: Map

    def __call__(self, x: Tensor, state: Tensor) -> Tensor:
        """One step: (B, N, F) and (B, N, D) -> (B, N, D)."""
        return self._step(self.inputs(x), state)

    def run(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """(B, T, N, F) -> (B, T, N, D): the states after every step, from a state (B, N, D) or from 0."""
        driven = self.inputs(x)
        batch, _, nodes, width = driven.shape
        if state is None:
            state = driven.new_zeros(nodes, batch, width // 3).transpose(0, 1)
        states = []
        for step in driven.unbind(1):
            state = self._step(step, state)
            states.append(state)
        return stack_steps(states)

    def _step(self, driven: Tensor, state: Tensor) -> Tensor:
        """One step with what r, u and c take of x, (B, N, 3 D)."""
        width = state.shape[-1]
        of_gates, of_candidate = driven.split([2 * width, width], dim=-1)
        reset, update = torch.sigmoid(of_gates + self.gates(state)).chunk(2, dim=-1)
        candidate = torch.tanh(of_candidate + self.candidate(reset * state))
        return torch.lerp(candidate, state, update)


def stack_steps(steps: list[Tensor]) -> Tensor:
    """S tensors (B, N, D) -> (B, S, N, D) with nodes first in memory, then windows."""
    return torch.stack([step.transpose(0, 1) for step in steps], dim=2).permute(1, 2, 0, 3)
