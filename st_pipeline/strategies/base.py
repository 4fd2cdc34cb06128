"""The interface of every strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from st_pipeline.data.protocols import Part
from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, NodeSet, Period

Gradients = Callable[[Forecaster], Iterator[list[Tensor]]]


@dataclass(frozen=True)
class Selection:
    """What a period's training uses: all windows and nodes unless said otherwise; `train` False skips training."""

    train: bool = True
    windows: Tensor | None = None  # indices into the training windows
    nodes: Tensor | None = None  # (N,) bool: nodes whose targets count, in training and in validation
    rows: Tensor | None = None  # (M,) int: nodes that the model sees in training; the others are not there
    graph: Graph | None = None  # among `rows`, in their order; the induced subgraph if left out


@dataclass(frozen=True)
class Network:
    """One period's sensors, graph and training part in model units."""

    nodes: NodeSet
    graph: Graph
    train: Part


@dataclass(frozen=True, kw_only=True)
class Arrival(Period):
    """A period with what it brings, loaded when it is asked for; strategies are handed it as `period`.

    Attributes:
        steps_per_day: steps of a day.
        gradients: of the loss of every batch of the training part, one tensor a trainable parameter of a forecaster
            (zeros where the loss does not depend on it).
        generator: of this period, on the CPU.
    """

    steps_per_day: int
    load: Callable[[], Network]
    load_previous: Callable[[], Network] | None = None
    gradients: Gradients
    generator: torch.Generator

    @cached_property
    def network(self) -> Network:
        """This period's sensors, graph and training part."""
        return self.load()

    @cached_property
    def previous(self) -> Network | None:
        """Those of the period before; None in the first."""
        return self.load_previous() if self.load_previous else None

    @classmethod
    def of(cls, period: Period, **brings: Any) -> Self:
        """The period with what it brings."""
        return cls(**{field.name: getattr(period, field.name) for field in fields(Period)}, **brings)


class Strategy:
    """What a learner does when a period arrives; the default trains everything it is given.

    The learner calls `prepare` with the forecaster as it was after the previous period, then `select`, then `penalty`
    in every step, then `consolidate`. The period is an `Arrival`: it holds the data as well.
    """

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
