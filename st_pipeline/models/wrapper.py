"""Forecasters around a forecaster."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, Window


class Wrapper(Forecaster):
    """A forecaster that forecasts as its inner one does, save where it says otherwise.

    The training loss is that of its own forecast; what an inner model adds to the loss is not passed on by itself.

    Args:
        inner: the forecaster inside.
    """

    def __init__(self, inner: Forecaster) -> None:
        super().__init__()
        self.inner = inner
        self.shape = inner.shape
        self.separable = inner.separable
        self.equivariant = inner.equivariant
        self.hops = inner.hops

    @property
    def width(self) -> int:
        return self.inner.width

    @property
    def shallow(self) -> tuple[int, ...]:
        return self.inner.shallow

    @property
    def deep(self) -> tuple[int, ...]:
        return self.inner.deep

    @property
    def divisible(self) -> bool:
        return super().divisible and self.inner.divisible

    @property
    def working_width(self) -> int:
        return self.inner.working_width

    def embed(self, window: Window, graph: Graph) -> Tensor:
        return self.inner.embed(window, graph)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        return self.inner.core(hidden, window, graph)

    def head(self, hidden: Tensor) -> Tensor:
        return self.inner.head(hidden)

    def forward(self, window: Window, graph: Graph) -> Tensor:
        out: Tensor = self.inner(window, graph)
        return out

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        return self.inner.prompted(prompt, window, graph)

    def parts(self) -> dict[str, nn.Module]:
        return self.inner.parts()

    def watched(self) -> dict[str, float]:
        return self.inner.watched()
