"""A way around a model for the season: the model learns what is left."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.flat_steps import flat, flat_width, unflat
from st_pipeline.layers.seasonal_mixture import SeasonalMixture
from st_pipeline.models.base import Criterion, Forecaster
from st_pipeline.models.wrapper import Wrapper
from st_pipeline.types import Graph, Target, Window


class SeasonalSkip(Wrapper):
    """y = inner(x) + mixture of seasonal lags: our own addition, the outermost wrapper of any model.

    Labels reach the inner model without the mixture's share, so that one whose decoder reads labels in training, or
    encodes them, finds there what it finds in its own forecasts.

    Args:
        inner: any forecaster.
    """

    def __init__(self, inner: Forecaster) -> None:
        super().__init__(inner)
        self.seasonal = SeasonalMixture(inner.shape)

    @property
    def deep(self) -> tuple[int, ...]:
        """What the inner model makes, its steps side by side, and behind it the H columns of the mixture."""
        return (flat_width(self.inner.deep) + self.shape.horizon,)

    @property
    def working_width(self) -> int:
        return self.inner.working_width + self.shape.channels + self.shape.horizon

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, S' * F' + H)."""
        return torch.cat([flat(self.inner.core(hidden, window, graph)), self.seasonal(window)], dim=-1)

    def head(self, hidden: Tensor) -> Tensor:
        deep, season = hidden.split([hidden.shape[-1] - self.shape.horizon, self.shape.horizon], dim=-1)
        return self.inner.head(unflat(deep, self.inner.deep)) + season.transpose(1, 2)

    def forward(self, window: Window, graph: Graph) -> Tensor:
        return super().forward(window, graph) + self._season(window)

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        return super().prompted(prompt, window, graph) + self._season(window)

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        """The inner model's, of what the mixture leaves; a criterion looks at differences alone."""
        left = target._replace(values=target.values - self._season(window))
        return self.inner.training_loss(window, left, graph, criterion)

    def parts(self) -> dict[str, nn.Module]:
        return {**super().parts(), "seasonal_skip": self.seasonal}

    def _season(self, window: Window) -> Tensor:
        """(B, H, N)."""
        share: Tensor = self.seasonal(window)
        return share.transpose(1, 2)
