"""Backbones whose decoder reads its own forecasts, or in training labels by scheduled sampling."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.layers.scheduled_sampling import Feedback, ScheduledSampling, own_forecast
from st_pipeline.models.base import Criterion, Forecaster
from st_pipeline.types import Graph, Target, Window


class SampledDecoder(Forecaster):
    """Base of such backbones; their deep representation is the decoder's last layer at every step of the forecast.

    Attributes:
        hidden: width of that layer, D.
        out: what makes a forecast of a step of it.
        sampling: when labels are fed.
    """

    hidden: int
    out: nn.Linear
    sampling: ScheduledSampling

    def decoded(self, hidden: Tensor, window: Window, graph: Graph, feedback: Feedback) -> Tensor:
        """The decoder's last layer (B, H, N, D) of an embedding, reading what `feedback` gives it."""
        raise NotImplementedError

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.shape.horizon, self.hidden)

    @property
    def divisible(self) -> bool:
        """Not while coins are tossed, one for the whole batch."""
        return super().divisible and not self.sampling.active

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, H, N, D): the decoder's last layer, reading its own forecasts."""
        return self.decoded(hidden, window, graph, own_forecast)

    def head(self, hidden: Tensor) -> Tensor:
        return self.out(hidden.movedim(-2, 0)).squeeze(-1).movedim(0, -1)  # (N, B, H, 1) -> (B, H, N)

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        """In training with scheduled sampling."""
        if not self.training or not self.sampling.active:
            return super().training_loss(window, target, graph, criterion)
        deep = self.decoded(self.embed(window, graph), window, graph, self.sampling.feedback(target))
        return criterion(self.head(deep), target)
