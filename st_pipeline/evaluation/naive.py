"""Naive forecasts, always in the table: last value, a day ago, a week ago, the average of the same hour of the week."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from st_pipeline.data.protocols import PartName, PeriodArrays
from st_pipeline.evaluation.issue_times import issue_times
from st_pipeline.model_config import NAIVE_MODELS

DAYS_PER_WEEK = 7


class NaiveForecasts:
    """Forecasts of one period's test windows without learning.

    A forecast uses observed values before the window's end and averages of the training part, nothing else; where
    its own value is missing it falls back, in this order: a week ago, two weeks ago, a day ago, the last value, the
    sensor's average, the network's average. A season is gone back as often as it takes to be known at the forecast.
    """

    def __init__(self, arrays: PeriodArrays, steps_per_day: int) -> None:
        self.arrays = arrays
        self.day = steps_per_day
        self.values = arrays.values[..., 0]  # (L, N)
        self.observed = arrays.usable[..., 0] & arrays.scored
        train = slice(0, arrays.cuts.train.stop)
        seen = self.observed[train].double()
        total = (self.values[train].double() * seen).sum(0)
        network = total.sum() / seen.sum().clamp(min=1)
        self.average = torch.where(seen.sum(0) > 0, total / seen.sum(0).clamp(min=1), network).float()
        self.last = self._last_values()
        self.profile, self.profile_seen = self._profile(train)

    def batches(self, name: str, part: PartName = "test") -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Forecast, truth and scored cells (B, H, N) of the windows of a part, for one of `NAIVE_MODELS`."""
        arrays = self.arrays
        for issued, future in issue_times(arrays, part):
            yield self.forecast(name, issued, future), arrays.truth[future], arrays.scored[future]

    def forecast(self, name: str, issued: Tensor, future: Tensor) -> Tensor:
        """(B, H, N) of one of `NAIVE_MODELS`, from the last known step (B,) for the steps (B, H)."""
        makers = dict(zip(NAIVE_MODELS, (self._last, self._daily, self._weekly, self._historical), strict=True))
        return makers[name](issued, future)

    def _last(self, issued: Tensor, future: Tensor) -> Tensor:
        return self.last[issued][:, None].expand(-1, future.shape[1], -1)

    def _daily(self, issued: Tensor, future: Tensor) -> Tensor:
        return self._seasonal(issued, future, [self.day], self._last(issued, future))

    def _weekly(self, issued: Tensor, future: Tensor) -> Tensor:
        week = DAYS_PER_WEEK * self.day
        return self._seasonal(issued, future, [week, 2 * week], self._daily(issued, future))

    def _historical(self, issued: Tensor, future: Tensor) -> Tensor:
        slot = self.arrays.day_of_week[future] * self.day + self.arrays.time_of_day[future]
        return torch.where(self.profile_seen[slot], self.profile[slot], self.average.expand(*future.shape, -1))

    def _seasonal(self, issued: Tensor, future: Tensor, lags: list[int], otherwise: Tensor) -> Tensor:
        return season_back(self.values, self.observed, issued, future, lags=lags, otherwise=otherwise)

    def _last_values(self) -> Tensor:
        """(L, N): the last observed value up to each step, the sensor's average before there is one."""
        latest = latest_observed(self.observed)
        found = self.values.gather(0, latest.clamp(min=0))
        return torch.where(latest >= 0, found, self.average)

    def _profile(self, train: slice) -> tuple[Tensor, Tensor]:
        """(7 * slots, N): average of the training part by slot of the week, and where there is one."""
        slot = self.arrays.day_of_week[train] * self.day + self.arrays.time_of_day[train]
        size = (DAYS_PER_WEEK * self.day, self.values.shape[1])
        seen = self.observed[train].double()
        count = torch.zeros(size, dtype=torch.float64).index_add_(0, slot, seen)
        total = torch.zeros(size, dtype=torch.float64).index_add_(0, slot, self.values[train].double() * seen)
        return (total / count.clamp(min=1)).float(), count > 0


def season_back(
    values: Tensor, observed: Tensor, issued: Tensor, future: Tensor, *, lags: list[int], otherwise: Tensor
) -> Tensor:
    """The value one lag before, whole lags further back where that is not yet known; the first lag that has one.

    Args:
        values, observed: (L, N).
        issued: (B,) last known steps.
        future: (B, H) steps to forecast.
        otherwise: (B, H, N) where no lag has one.
    """
    forecast = otherwise
    ahead = future - issued[:, None]
    for lag in reversed(lags):
        at = future - lag * (-(-ahead // lag))
        inside = at >= 0
        seen = observed[at.clamp(min=0)] & inside[..., None]
        forecast = torch.where(seen, values[at.clamp(min=0)], forecast)
    return forecast


def latest_observed(observed: Tensor) -> Tensor:
    """The last observed step up to each step, -1 before there is one: (L, N) -> (L, N)."""
    steps = torch.arange(len(observed))[:, None].expand_as(observed)
    return torch.where(observed, steps, -1).cummax(0).values
