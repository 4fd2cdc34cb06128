"""Windows as views of one resident array: gathered by index, never stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from st_pipeline.types import Target, Window


@dataclass(frozen=True, eq=False)
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

    def of_nodes(self, rows: Tensor) -> Windows:
        """The same windows of some nodes (M,), in their order."""
        return replace(
            self,
            values=of_nodes(self.values, rows),
            observed=of_nodes(self.observed, rows),
            target=of_nodes(self.target, rows),
            target_observed=of_nodes(self.target_observed, rows),
        )

    def to(self, device: torch.device | str) -> Windows:
        names = ("values", "observed", "target", "target_observed", "time_of_day", "day_of_week")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def gather(self, starts: Tensor) -> tuple[Window, Target]:
        """Inputs and targets of the windows that begin at the given steps (B,); in memory nodes come first."""
        future = self.future(starts)
        return self.inputs(starts), Target(cut(self.target, future), cut(self.target_observed, future))

    def future(self, starts: Tensor) -> Tensor:
        """(B, H): the steps that are forecast."""
        return starts[:, None] + torch.arange(self.window, self.span, device=starts.device)

    def inputs(self, starts: Tensor) -> Window:
        """What a model reads of the windows that begin at the given steps (B,)."""
        steps = starts[:, None] + torch.arange(self.span, device=starts.device)  # (B, T + H)
        past = steps[:, : self.window]
        if self._from_the_window_on:
            values, observed = (cut(array, past) for array in self._inputs)
        else:
            lagged, seen = self._seasonal(past)
            values, observed = self.values[past], self.observed[past]
            values, observed = torch.cat([values, lagged], dim=-1), torch.cat([observed, seen], dim=-1)
        return Window(values, observed, self.time_of_day[steps], self.day_of_week[steps])

    @cached_property
    def complete(self) -> bool:
        """Whether every target is observed."""
        return bool(self.target_observed.all())

    @property
    def _from_the_window_on(self) -> bool:
        """Whether every lagged value lies at or before the window's last step, whatever the window."""
        return not self.lags or min(self.lags) >= self.window

    @cached_property
    def _inputs(self) -> tuple[Tensor, Tensor]:
        """Values and observed (L, N, C + 2 * lags): lagged channels do not depend on the window that is cut."""
        if not self.lags:
            return self.values, self.observed
        steps = torch.arange(len(self.values), device=self.values.device)[None]
        (lagged,), (seen,) = self._lagged_channels(steps, torch.full_like(steps[:, 0], len(self.values)))
        return torch.cat([self.values, lagged], dim=-1), torch.cat([self.observed, seen], dim=-1)

    def _seasonal(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Two channels per lag, (B, T, N, 2 * lags): the target one lag before the window's own steps, then, behind
        those of all lags, one lag before the forecast steps (as many of them as the window has positions).

        A value that is missing, or lies behind the window's last step, is filled with that of the next lag that has
        it, and stays marked as not observed.
        """
        return self._lagged_channels(past, past[:, -1])

    def _lagged_channels(self, steps: Tensor, issued: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self._lagged(steps + ahead, issued) for ahead in (0, self.window)]
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


def spaced(starts: Tensor, most: int) -> Tensor:
    """As many of the first steps of windows (S,) as there may be, evenly spaced, both ends among them."""
    chosen = torch.linspace(0, len(starts) - 1, min(len(starts), most)).round().long()
    return starts[chosen.to(starts.device)]


def of_nodes(array: Tensor, rows: Tensor) -> Tensor:
    """Some nodes of an array: (L, N, ...) -> (L, M, ...)."""
    if array.stride(0) == 0:  # the same at every step
        return array[0][rows].expand(len(array), len(rows), *array.shape[2:])
    return array[:, rows]


def cut(array: Tensor, steps: Tensor) -> Tensor:
    """Rows of an array: (L, N, ...) at steps (B, T) -> (B, T, N, ...), a view of memory in the order N, ..., B, T.

    Models work node by node, so this is the order in which they need no copy of their own.
    """
    if array.stride(0) == 0:  # the same at every step
        return array[0].expand(*steps.shape, *array.shape[1:])
    rows = array.flatten(1).index_select(0, steps.flatten())  # whole rows are copied, which is what memory is fast at
    nodes_first = rows.t().contiguous().view(*array.shape[1:], *steps.shape)
    return nodes_first.movedim((-2, -1), (0, 1))
