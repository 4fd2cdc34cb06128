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

from st_pipeline.data.protocols import Part
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
        errors, truths = [], []
        for forecast, truth, scored in batches:
            errors.append(error_sums(forecast, truth, scored))
            truths.append(_truth_sums(torch.where(scored, truth, 0.0).double(), scored, lambda cells: cells.sum(0)))
        return cls._of(torch.stack(errors).sum(0), torch.stack(truths).sum(0))

    @classmethod
    def of_part(cls, part: Part, errors: Tensor) -> Tally:
        """From the `error_sums` over all windows of a part, which begin step after step.

        What depends on the truth alone is then one sum, and what joins and leaves it from step to step.
        """
        first, count = int(part.starts[0]) + part.windows.window, len(part.starts)
        used = slice(first, first + count + part.windows.horizon - 1)

        def over_windows(cells: Tensor) -> Tensor:
            joins_and_leaves = cells[count:] - cells[: len(cells) - count]  # from each step ahead to the next
            return torch.cat([cells[:count].sum(0, keepdim=True), joins_and_leaves]).cumsum(0)

        scored = part.scored[used]
        truth = torch.where(scored, part.truth[used], 0.0).double()
        return cls._of(errors, _truth_sums(truth, scored, over_windows))

    @classmethod
    def _of(cls, errors: Tensor, truths: Tensor) -> Tally:
        absolute, square, relative, absolute_nonzero, square_nonzero = errors.cpu().numpy().transpose(0, 2, 1)
        count, nonzero, *of_truth = truths.cpu().numpy().transpose(0, 2, 1)
        return cls(
            Sums(count, absolute, square, relative, nonzero, *of_truth),
            Sums(nonzero, absolute_nonzero, square_nonzero, relative, nonzero, *of_truth),
        )

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


def error_sums(forecast: Tensor, truth: Tensor, scored: Tensor) -> Tensor:
    """Sums over windows of what depends on the forecast: (B, H, N) each -> (5, H, N) in double precision.

    Absolute, squared and relative errors, and the first two again over cells whose truth is not zero.
    """
    return _Errors.of(forecast, truth, scored).over_windows()


def loss_sums(forecast: Tensor, truth: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """`error_sums`, and sums over the nodes of every window: (5, B, H) in double precision.

    Absolute and squared errors, scored cells, and absolute errors and cells again where the truth is not zero.
    """
    errors = _Errors.of(forecast, truth, scored)
    return errors.over_windows(), errors.over_nodes()


@dataclass(frozen=True)
class _Errors:
    """Errors of some windows, (N, B, H) each: the order that windows have in memory."""

    absolute: Tensor
    square: Tensor
    relative: Tensor
    scored: Tensor
    nonzero: Tensor
    absolute_nonzero: Tensor
    square_nonzero: Tensor

    @classmethod
    def of(cls, forecast: Tensor, truth: Tensor, scored: Tensor) -> _Errors:
        forecast, truth, scored = (cells.movedim(-1, 0) for cells in (forecast, truth, scored))
        truth = torch.where(scored, truth, 0.0)
        error = torch.where(scored, forecast - truth, 0.0)
        nonzero = truth != 0
        absolute, square = error.abs(), error.square()
        relative = torch.where(nonzero, absolute / truth.abs(), 0.0)
        masked = absolute, square
        if not torch.equal(nonzero, scored):
            masked = torch.where(nonzero, absolute, 0.0), torch.where(nonzero, square, 0.0)
        return cls(absolute, square, relative, scored, nonzero, *masked)

    def over_windows(self) -> Tensor:
        """(5, H, N)."""
        kinds = (self.absolute, self.square, self.relative, self.absolute_nonzero, self.square_nonzero)
        return torch.stack([cells.sum(1, dtype=torch.float64) for cells in kinds]).transpose(1, 2)

    def over_nodes(self) -> Tensor:
        """(5, B, H)."""
        kinds = (self.absolute, self.square, self.scored, self.absolute_nonzero, self.nonzero)
        return torch.stack([cells.sum(0, dtype=torch.float64) for cells in kinds])


def _truth_sums(truth: Tensor, scored: Tensor, add: Callable[[Tensor], Tensor]) -> Tensor:
    """Counts of cells and of those that are not zero, and sums of the truth, its absolute value and its square."""
    return torch.stack(
        [add(cells) for cells in (scored.double(), (truth != 0).double(), truth, truth.abs(), truth.square())]
    )
