"""The interface of every strategy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from st_pipeline.models.base import Forecaster
from st_pipeline.types import NodeSet, Period


@dataclass(frozen=True)
class Selection:
    """What a period's training uses: all windows and nodes unless said otherwise; `train` False skips training."""

    train: bool = True
    windows: Tensor | None = None  # indices into the training windows
    nodes: Tensor | None = None  # (N,) bool: nodes whose targets count


class Strategy:
    """What a learner does when a period arrives; the default trains everything it is given."""

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        """The forecaster to train: expanded, frozen or drawn anew."""
        forecaster.expand(nodes)
        return forecaster.requires_grad_()

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        """Nodes and windows to train on, possibly none."""
        return Selection()

    def penalty(self, forecaster: Forecaster) -> Tensor:
        """Added to the loss of every step; a scalar, 0 without one."""
        return torch.zeros((), device=next(forecaster.parameters()).device)

    def consolidate(self, forecaster: Forecaster, period: Period) -> None:
        """What is remembered after training, e.g. Fisher information."""

    def state(self) -> dict[str, Tensor]:
        """What is remembered, for the checkpoint."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what an earlier period remembered."""
