"""Backbones of convolutions along time whose layers' skips, added up, make the forecast."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.models.base import Forecaster


class SkipNetwork(Forecaster):
    """Base of such backbones: they embed `span` steps in `hidden` features, and two layers read the sum of skips.

    Attributes:
        span: steps of the embedding, S.
        end1: from the sum of skips (B, N, skip) inwards.
        end2: what makes all steps of the forecast of it.
    """

    span: int
    hidden: int
    end1: nn.Linear
    end2: nn.Linear

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.span, self.hidden)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.end1.in_features,)

    @property
    def head_width(self) -> int:
        """Numbers kept of a node behind the layers."""
        return self.end1.in_features + self.end1.out_features + self.end2.out_features

    def head(self, hidden: Tensor) -> Tensor:
        forecast: Tensor = self.end2(torch.relu(self.end1(torch.relu(hidden))))
        return forecast.transpose(1, 2)
