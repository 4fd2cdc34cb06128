"""Taking a signal apart by what it is known to depend on, and by what has been explained (D2STGNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EstimationGate(nn.Module):
    """How much of a signal came from elsewhere: sigmoid(w ReLU(W [calendar ; sensor] + b) + c), from 0 to 1.

    Args:
        calendar: columns of what is known of a step.
        sensor: columns of what is known of a node.
        hidden: width of the layer between.
    """

    def __init__(self, calendar: int, sensor: int, hidden: int) -> None:
        super().__init__()
        self.calendar = calendar
        self.inward, self.outward = nn.Linear(calendar + sensor, hidden), nn.Linear(hidden, 1)

    def forward(self, when: Tensor, who: Tensor) -> Tensor:
        """(B, S, calendar) and (N, sensor) -> (B, N, S, 1)."""
        of_calendar, of_sensor = self.inward.weight.tensor_split([self.calendar], dim=1)
        steps = nn.functional.linear(when, of_calendar, self.inward.bias)
        nodes = nn.functional.linear(who, of_sensor)
        out: Tensor = torch.sigmoid(self.outward(torch.relu(steps[:, None] + nodes[:, None])))
        return out


class Remainder(nn.Module):
    """norm(x - ReLU(W h + b)): what h does not explain of the last steps of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.explained, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """(..., S, F) and (..., S', F) -> (..., S', F)."""
        out: Tensor = self.norm(x[..., -found.shape[-2] :, :] - torch.relu(self.explained(found)))
        return out
