"""Windows as views of one resident array: gathered by index, never stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from st_pipeline.types import Target, Window


@dataclass(frozen=True)
class Windows:
    """The arrays of one period on the device, in model units, and how to cut windows from them.

    values (L, N, C) and observed (L, N, C) are inputs, 0 where not observed; target (L, N) and target_observed
    (L, N) are what is forecast; time_of_day and day_of_week are (L,). `lags` are steps back to
    the seasonal values that enter as further channels.
    """

    values: Tensor
    observed: Tensor
    target: Tensor
    target_observed: Tensor
    time_of_day: Tensor
    day_of_week: Tensor
    window: int
    horizon: int
    lags: tuple[int, ...] = ()

    @property
    def span(self) -> int:
        """Steps of one window with its targets."""
        return self.window + self.horizon

    def gather(self, starts: Tensor) -> tuple[Window, Target]:
        """Inputs and targets of the windows that begin at the given steps (B,)."""
        steps = starts[:, None] + torch.arange(self.span, device=starts.device)  # (B, T + H)
        past, future = steps[:, : self.window], steps[:, self.window :]
        values, observed = self.values[past], self.observed[past]
        if self.lags:
            lagged, seen = self._seasonal(past)
            values, observed = torch.cat([values, lagged], dim=-1), torch.cat([observed, seen], dim=-1)
        window = Window(values, observed, self.time_of_day[steps], self.day_of_week[steps])
        return window, Target(self.target[future], self.target_observed[future])

    def _seasonal(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Two channels per lag, (B, T, N, 2 * lags): the target one lag before the window's own steps, then, behind
        those of all lags, one lag before the forecast steps (as many of them as the window has positions).

        A value that is missing, or lies behind the window's last step, is filled with that of the next lag that has
        it, and stays marked as not observed.
        """
        parts = [self._lagged(past + ahead, past[:, -1]) for ahead in (0, self.window)]
        return torch.cat([values for values, _ in parts], dim=-1), torch.cat([seen for _, seen in parts], dim=-1)

    def _lagged(self, steps: Tensor, issued: Tensor) -> tuple[Tensor, Tensor]:
        at = steps[..., None] - torch.tensor(self.lags, device=steps.device)  # (B, T, lags)
        inside = (at >= 0) & (at <= issued[:, None, None])
        at = at.clamp(0, len(self.values) - 1)
        seen = (self.observed[..., 0][at] & inside[..., None]).transpose(2, 3)  # (B, T, N, lags)
        values = self.values[..., 0][at].transpose(2, 3) * seen
        filled, known = values, seen
        for shift in range(1, len(self.lags)):
            filled = torch.where(known, filled, values.roll(-shift, dims=-1))
            known = known | seen.roll(-shift, dims=-1)
        return filled, seen
