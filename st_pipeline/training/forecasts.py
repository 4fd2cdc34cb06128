"""Forecasts of all windows of a part, and the error that training is judged by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from st_pipeline.data.protocols import Part
from st_pipeline.data.windows import cut
from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.training.pieces import Workers, pieces_of
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph

T = TypeVar("T")
WAITING = 8  # pieces a worker may be ahead of what adds them up
TOGETHER = 512  # windows that a model sees at a time where nothing asks for fewer


def forecasts(
    forecaster: Forecaster, part: Part, graph: Graph, *, batch: int | None = None, most: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Forecast, truth and scored cells (B, H, N) in the unit of the readings, of all windows of a part in order.

    Args:
        batch: windows at a time.
        most: windows that memory allows at a time, where `batch` is not given.
    """
    for starts in _pieces(forecaster, part, batch, most):
        with evaluating(forecaster):
            found = _forecast(forecaster, part, graph, starts)
        yield found


def map_forecasts(
    forecaster: Forecaster,
    part: Part,
    graph: Graph,
    each: Callable[[Tensor, Tensor, Tensor], T],
    *,
    workers: Workers,
    most: int | None = None,
) -> Iterator[T]:
    """`each` of forecast, truth and scored cells, as `forecasts` gives them, of all windows in order, piece by piece.

    Args:
        most: windows that memory allows at a time.
    """
    return _mapped(forecaster, part, graph, each, workers.map, workers=workers, most=most)


def _mapped(
    forecaster: Forecaster,
    part: Part,
    graph: Graph,
    each: Callable[[Tensor, Tensor, Tensor], T],
    spread: Callable[[Callable[[Tensor], T], Sequence[Tensor]], list[T]],
    *,
    workers: Workers,
    most: int | None,
) -> Iterator[T]:
    def work(starts: Tensor) -> T:
        with torch.no_grad():
            return each(*_forecast(forecaster, part, graph, starts))

    pieces, at_once = _pieces(forecaster, part, None, most, workers.ranks.size), WAITING * workers.together
    with evaluating(forecaster):
        for first in range(0, len(pieces), at_once):
            yield from spread(work, pieces[first : first + at_once])


def sum_over_forecasts(
    forecaster: Forecaster,
    part: Part,
    graph: Graph,
    each: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    workers: Workers,
    most: int | None = None,
) -> Tensor:
    """Sum of `map_forecasts` over all windows of a part, which the processes of the team share."""
    total: Tensor | None = None
    for found in _mapped(forecaster, part, graph, each, workers.map_tensors, workers=workers, most=most):
        total = found if total is None else total + found
    assert total is not None, "a part has at least one window"
    return total


def _pieces(
    forecaster: Forecaster, part: Part, batch: int | None, most: int | None = None, least: int = 1
) -> list[Tensor]:
    if batch is not None or not forecaster.separable:
        return list(part.starts.split(batch or most or TOGETHER))
    return pieces_of(part.starts, part.truth.shape[1], most=most or TOGETHER, least=least)


def _forecast(forecaster: Forecaster, part: Part, graph: Graph, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    future = part.windows.future(starts)
    forecast = part.restore(forecaster(part.windows.inputs(starts), graph))
    return forecast, cut(part.truth, future), cut(part.scored, future)


def validation_error(
    forecaster: Forecaster,
    part: Part,
    graph: Graph,
    settings: Settings,
    *,
    workers: Workers | None = None,
    most: int | None = None,
) -> float:
    """Masked mean absolute error in the unit of the readings.

    With `batch_mean`, as in the public code: zeros do not count, batches weigh the same, rounded to 4 decimals.
    """
    team = workers or Workers()
    if settings.batch_mean:
        nonzero = replace(part, scored=part.scored & (part.truth != 0))
        batches = [replace(nonzero, starts=starts) for starts in part.starts.split(settings.batch)]
        errors = [_mean_error(forecaster, batch, graph, team, most) for batch in batches]
        return round(float(torch.stack(errors).float().mean()), 4)
    return float(_mean_error(forecaster, part, graph, team, most))


def _mean_error(forecaster: Forecaster, part: Part, graph: Graph, workers: Workers, most: int | None) -> Tensor:
    """Mean absolute error over the scored cells."""

    def sums(forecast: Tensor, truth: Tensor, scored: Tensor) -> Tensor:
        error = torch.where(scored, forecast - truth, 0.0)
        return torch.stack([error.abs().sum(), scored.sum()]).double()

    total, count = sum_over_forecasts(forecaster, part, graph, sums, workers=workers, most=most)
    return total / count.clamp(min=1)


@contextmanager
def evaluating(forecaster: Forecaster) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of every module is restored afterwards."""
    with as_in_evaluation(forecaster), torch.no_grad():
        yield


def latency(forecaster: Forecaster, part: Part, graph: Graph, repeats: int = 5) -> float:
    """Median milliseconds of one forecast of all nodes from one window."""
    single = replace(part, starts=part.starts[:1])
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for forecast, _, _ in forecasts(forecaster, single, graph):
            float(forecast.sum())  # waits for the device
        times.append(time.perf_counter() - begin)
    return sorted(times)[repeats // 2] * 1000
