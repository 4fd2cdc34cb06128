"""The season's share of a forecast: a mixture of what the target was a day, a week ... earlier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.types import SeriesShape, Window


class SeasonalMixture(nn.Module):
    """Linear in the latest value of every channel, plus a mixture of the lagged channels step by step.

    The same for all sensors, with weights of its own for each step of the forecast. It starts as the mean of the
    lagged channels, or without any as the last value.
    """

    def __init__(self, shape: SeriesShape) -> None:
        super().__init__()
        self.shape = shape
        self.latest = nn.Parameter(torch.empty(shape.channels, shape.horizon))
        self.mixture = nn.Parameter(torch.empty(shape.lags, shape.horizon))
        self._begin()

    def reset_parameters(self) -> None:
        self._begin()

    def _begin(self) -> None:
        with torch.no_grad():
            self.latest.zero_()
            self.latest[0] = 0.0 if self.shape.lags else 1.0
            self.mixture.fill_(1 / max(self.shape.lags, 1))

    def forward(self, window: Window) -> Tensor:
        """(B, N, H)."""
        out = window.values[:, -1] @ self.latest
        short = max(0, self.shape.horizon - self.shape.window)
        for lag in range(self.shape.lags):
            channel = self.shape.channels - self.shape.lags + lag
            aligned = nn.functional.pad(window.values[..., channel].transpose(1, 2), (0, short))  # (B, N, >= H)
            out = out + aligned[..., : self.shape.horizon] * self.mixture[lag]
        return out
