"""Weights held where they were, each by how much the loss depends on it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.base import Forecaster


class ElasticWeights:
    """Elastic weight consolidation: strength / 2 * sum_i F_i (theta_i - theta*_i)^2 (Kirkpatrick et al. 2017, eq. 3).

    F is the diagonal of the empirical Fisher information as TrafficStream's public code takes it: the sum over batches
    of the squared gradient of a batch's mean loss. Node tables are left free: their rows come and go with the sensors.

    Args:
        strength: lambda.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.centre: dict[str, Tensor] = {}
        self.fisher: dict[str, Tensor] = {}

    def anchor(self, forecaster: Forecaster, gradients: Iterable[list[Tensor]]) -> None:
        """Hold the weights where they are now.

        Args:
            gradients: of each batch, one tensor a trainable parameter in their order; all ones hold every weight
                alike, which is the L2 form.
        """
        rows = _row_names(forecaster)
        trainable = {name: part for name, part in forecaster.named_parameters() if part.requires_grad}
        fisher = {name: torch.zeros_like(part) for name, part in trainable.items()}
        for batch in gradients:
            for total, gradient in zip(fisher.values(), batch, strict=True):
                total += gradient.detach().square()
        self.centre = {name: part.detach().clone() for name, part in trainable.items() if name not in rows}
        self.fisher = {name: fisher[name] for name in self.centre}

    def penalty(self, forecaster: Forecaster) -> Tensor:
        """Scalar to be added to the loss; it covers trainable parameters that have an anchor of their shape."""
        total = torch.zeros((), device=next(forecaster.parameters()).device)
        for name, part in forecaster.named_parameters():
            if part.requires_grad and name in self.centre and part.shape == self.centre[name].shape:
                self._follow(name, part.device)
                total = total + (self.fisher[name] * (part - self.centre[name]).square()).sum()
        return self.strength / 2 * total

    def state(self) -> dict[str, Tensor]:
        """Weights and their importance, by parameter."""
        centre = {f"centre.{name}": value for name, value in self.centre.items()}
        return centre | {f"fisher.{name}": value for name, value in self.fisher.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up an anchor that was stored; other entries of the state are left alone."""
        for kind, own in (("centre.", self.centre), ("fisher.", self.fisher)):
            own.clear()
            own.update({name.removeprefix(kind): part for name, part in state.items() if name.startswith(kind)})

    def _follow(self, name: str, device: torch.device) -> None:
        self.centre[name], self.fisher[name] = self.centre[name].to(device), self.fisher[name].to(device)


def _row_names(forecaster: Forecaster) -> set[str]:
    """Names of the parameters that hold sensors' rows."""
    prefixes = [f"{name}." if name else "" for name in node_tables(forecaster)]
    return {f"{prefix}{kind}" for prefix in prefixes for kind in ("retained", "appended")}
