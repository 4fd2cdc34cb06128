"""Masked errors per step and per sensor, from one pass over the forecasts.

Every metric is a function of sums that add up over windows, sensors and steps; they are kept per node and step, so
that any cohort and any horizon follows without another pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st_pipeline.evaluation.rows import PUBLISHED

METRICS = ("mae", "rmse", "mape", "wape", "r2")


@dataclass(frozen=True)
class Sums:
    """Sums over windows, one array of the same shape each (N, H), or reduced."""

    count: NDArray[np.float64]
    absolute: NDArray[np.float64]
    square: NDArray[np.float64]
    relative: NDArray[np.float64]  # |error| / |truth| over cells whose truth is not zero
    nonzero: NDArray[np.float64]
    truth: NDArray[np.float64]
    truth_absolute: NDArray[np.float64]
    truth_square: NDArray[np.float64]

    def map(self, change: Callable[[Any], Any]) -> Sums:
        """The same function on every field."""
        return Sums(**{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def metric(self, name: str) -> NDArray[np.float64]:
        """One metric, elementwise; NaN where no cell counts. `mape` and `wape` are in percent, `r2` is in shares of 1.

        MAPE leaves out cells whose truth is zero; WAPE is the summed error over the summed truth.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            if name == "mae":
                return self.absolute / self.count
            if name == "rmse":
                return np.sqrt(self.square / self.count)
            if name == "mape":
                return 100 * self.relative / self.nonzero
            if name == "wape":
                return np.where(self.truth_absolute > 0, 100 * self.absolute / self.truth_absolute, np.nan)
            spread = self.truth_square - self.truth**2 / self.count
            return np.where(spread > 1e-9 * np.maximum(self.truth_square, 1e-30), 1 - self.square / spread, np.nan)


@dataclass(frozen=True)
class Tally:
    """Sums over all observed cells, and over those whose truth is not zero (the published masking)."""

    observed: Sums
    nonzero: Sums

    @classmethod
    def of(cls, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tally:
        """Add up batches of forecast, truth and scored cells, each (B, H, N)."""
        totals: list[Tensor] = []
        for forecast, truth, scored in batches:
            parts = [_sums(forecast, truth, mask) for mask in (scored, scored & (truth != 0))]
            stacked = torch.stack([torch.stack(part) for part in parts])  # (2, fields, H, N)
            totals = [totals[0] + stacked] if totals else [stacked]
        arrays = totals[0].cpu().numpy().transpose(0, 1, 3, 2)
        return cls(Sums(*arrays[0]), Sums(*arrays[1]))

    def scores(self, nodes: Sequence[int] | None = None) -> dict[tuple[str, str], float]:
        """(metric, horizon) -> value over the given nodes: `at:h`, `upto:h` and `published_average`.

        `at:h` is step h alone, `upto:h` pools steps 1..h. The published average is the mean over h of the metric
        over steps 1..h with zero targets masked (EAC's `cal_metric`).
        """
        rows = slice(None) if nodes is None else np.asarray(nodes, dtype=np.int64)
        observed = self.observed.map(lambda array: array[rows].sum(axis=0))
        upto = observed.map(np.cumsum)
        published = self.nonzero.map(lambda array: np.cumsum(array[rows].sum(axis=0)))
        found: dict[tuple[str, str], float] = {}
        for name in METRICS:
            for label, sums in (("at", observed), ("upto", upto)):
                found |= {(name, f"{label}:{step}"): float(v) for step, v in enumerate(sums.metric(name), start=1)}
            found[(name, PUBLISHED)] = float(published.metric(name).mean())
        return found

    def by_sensor(self, name: str = "mae") -> NDArray[np.float64]:
        """(N,) a metric over all steps, per node."""
        return self.observed.map(lambda array: array.sum(axis=1)).metric(name)


def _sums(forecast: Tensor, truth: Tensor, mask: Tensor) -> list[Tensor]:
    """The fields of `Sums` for one batch, each (H, N), in double precision."""
    weight = mask.double()
    y = torch.where(mask, truth.double(), 0.0)
    error = torch.where(mask, forecast.double() - y, 0.0)
    nonzero = weight * (y != 0)
    relative = torch.where(nonzero > 0, error.abs() / y.abs(), 0.0)
    cells = [weight, error.abs(), error**2, relative, nonzero, y, y.abs(), y**2]
    return [cell.sum(0) for cell in cells]
