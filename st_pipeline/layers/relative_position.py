"""What distance and time lag between a forecast and a reading add to the score of an attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SPREAD = 4.0  # how much less an unreachable sensor scores than the own one at first


class RelativePosition(nn.Module):
    """b[h, bucket of the distance, lag], learned for each head; at first a decay along both.

    Forecast step tau = 0..H-1 is tau + T - t steps behind the window's step t = 0..T-1: T + H - 1 different lags.

    Args:
        buckets: of distances; 0 is the own sensor, the last an unreachable one.
        learned: False keeps the decay of the beginning.
    """

    bias: Tensor

    def __init__(self, *, heads: int, buckets: int, window: int, horizon: int, learned: bool = True) -> None:
        super().__init__()
        self.window, self.horizon = window, horizon
        bias = torch.empty(heads, buckets, window + horizon - 1)
        if learned:
            self.bias = nn.Parameter(bias)
        else:
            self.register_buffer("bias", bias)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """-4 bucket / (buckets - 1) - lag / T, the same for all heads."""
        _, buckets, lags = self.bias.shape
        distance = SPREAD * torch.arange(buckets, device=self.bias.device) / (buckets - 1)
        lag = torch.arange(1, lags + 1, device=self.bias.device) / self.window
        self.bias.copy_((-distance[:, None] - lag).expand_as(self.bias))

    def forward(self) -> Tensor:
        """(buckets, heads, H, T): the numbers for every forecast step and step of the window."""
        device = self.bias.device
        tau, step = torch.arange(self.horizon, device=device), torch.arange(self.window, device=device)
        lag = tau[:, None] + self.window - step  # (H, T), from 1
        return self.bias[..., lag - 1].transpose(0, 1)
