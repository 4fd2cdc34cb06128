"""The epoch loop: the only one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from st_pipeline.config import TrainingConfig
from st_pipeline.data.protocols import Part, Protocol
from st_pipeline.errors import InputError
from st_pipeline.models.base import Criterion, Forecaster
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.types import Graph, Target

EVALUATION_CELLS = 1 << 24  # forecasts at a time when nothing is learned


@dataclass(frozen=True)
class Settings:
    """How a model is trained: the protocol's values with the model's own in their place."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int
    loss: str
    decay: str
    stride: int
    masked_loss: bool
    batch_mean: bool

    @classmethod
    def of(cls, protocol: Protocol, training: TrainingConfig) -> Settings:
        given: dict[str, Any] = {**vars(protocol), "stride": 1, **training.model_dump(exclude_none=True)}
        return cls(**{name: given[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Epoch:
    """Losses of one pass over the training windows."""

    index: int
    loss: float
    validation: float
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """History of a training; the forecaster holds the weights of `best` afterwards."""

    epochs: tuple[Epoch, ...]
    best: int
    seconds: float


def make_criterion(part: Part, settings: Settings, nodes: Tensor | None = None) -> Criterion:
    """Error of a batch; a cell counts by its sensor's deviation, so that the loss is in the unit of the readings.

    Args:
        nodes: (N,) bool, the nodes whose targets count; all of them if left out.
    """
    scale = torch.ones_like(part.scaler.scale[:, 0]) if part.raw_target else part.scaler.scale[:, 0]
    weight = scale / scale.mean() if settings.loss == "mae" else torch.ones_like(scale)

    def criterion(forecast: Tensor, target: Target) -> Tensor:
        counted = target.observed if settings.masked_loss else torch.ones_like(target.observed)
        if nodes is not None:
            counted = counted & nodes
        error = torch.where(counted, forecast - target.values, 0.0)
        error = (error.abs() if settings.loss == "mae" else error**2) * weight
        return error.sum() / counted.sum().clamp(min=1)

    return criterion


def fit(
    forecaster: Forecaster,
    *,
    train: Part,
    validation: Part,
    graph: Graph,
    strategy: Strategy,
    selection: Selection,
    settings: Settings,
    generator: torch.Generator,
    progress: Callable[[Epoch], None] | None = None,
) -> FitResult:
    """Train until the validation error has not improved for more than `patience` epochs, and keep the best weights.

    Raises:
        InputError: the loss is no finite number.
    """
    parameters = [parameter for parameter in forecaster.parameters() if parameter.requires_grad]
    on_cuda = train.starts.device.type == "cuda"
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True, capturable=on_cuda
    )
    criterion = make_criterion(train, settings, selection.nodes)
    starts = (train.starts if selection.windows is None else train.starts[selection.windows])[:: settings.stride]
    history: list[Epoch] = []
    best, best_error, best_state = 0, math.inf, _snapshot(parameters)
    begin = time.perf_counter()
    for index in range(settings.epochs):
        tick = time.perf_counter()
        _set_rate(optimiser, settings, index)
        order = starts[torch.randperm(len(starts), generator=generator).to(starts.device)]
        losses = []
        for batch in order.split(settings.batch):
            window, target = train.windows.gather(batch)
            optimiser.zero_grad(set_to_none=True)
            loss = forecaster.training_loss(window, target, graph, criterion) + strategy.penalty(forecaster)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        mean = float(torch.stack(losses).mean())
        error = validation_error(forecaster, validation, graph, settings)
        if not math.isfinite(mean) or not math.isfinite(error):
            raise InputError(f"training diverged in epoch {index + 1} (loss {mean}); lower training.learning_rate")
        history.append(Epoch(index + 1, mean, error, time.perf_counter() - tick))
        if progress:
            progress(history[-1])
        if error <= best_error:
            best, best_error, best_state = index + 1, error, _snapshot(parameters)
        elif index + 1 - best > settings.patience:
            break
    _restore(parameters, best_state)
    return FitResult(tuple(history), best, time.perf_counter() - begin)


def validation_error(forecaster: Forecaster, part: Part, graph: Graph, settings: Settings) -> float:
    """Masked mean absolute error in the unit of the readings.

    With `batch_mean`, as in the public code: zeros do not count, batches weigh the same, rounded to 4 decimals.
    """
    if settings.batch_mean:
        errors = []
        for forecast, truth, scored in forecasts(forecaster, part, graph, batch=settings.batch):
            mask = scored & (truth != 0)
            errors.append(_absolute(forecast, truth, mask).sum() / mask.sum().clamp(min=1))
        return round(float(torch.stack(errors).mean()), 4)
    total = count = torch.zeros((), dtype=torch.float64)
    for forecast, truth, scored in forecasts(forecaster, part, graph):
        total = total + _absolute(forecast, truth, scored).sum(dtype=torch.float64).cpu()
        count = count + scored.sum().cpu()
    return float(total / count.clamp(min=1))


def _absolute(forecast: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, (forecast - truth).abs(), 0.0)


def forecasts(
    forecaster: Forecaster, part: Part, graph: Graph, *, batch: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Forecast, truth and scored cells (B, H, N) in the unit of the readings, of all windows of a part in order."""
    size = batch or max(1, EVALUATION_CELLS // (part.windows.span * part.truth.shape[1] * 64))
    ahead = torch.arange(part.windows.window, part.windows.span, device=part.starts.device)
    for chunk in part.starts.split(size):
        window, _ = part.windows.gather(chunk)
        future = chunk[:, None] + ahead
        with evaluating(forecaster):
            forecast = part.restore(forecaster(window, graph))
        yield forecast, part.truth[future], part.scored[future]


@contextmanager
def evaluating(forecaster: Forecaster) -> Iterator[None]:
    """Evaluation mode without gradients; the mode is restored afterwards."""
    mode = forecaster.training
    forecaster.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        forecaster.train(mode)


def _set_rate(optimiser: torch.optim.Optimizer, settings: Settings, epoch: int) -> None:
    """Constant, or a half cosine that ends at a hundredth of the learning rate in the last epoch."""
    if settings.decay != "cosine":
        return
    share = 0.5 * (1 + math.cos(math.pi * epoch / max(1, settings.epochs - 1)))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * (0.01 + 0.99 * share)


def _snapshot(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _restore(parameters: list[torch.nn.Parameter], state: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, saved in zip(parameters, state, strict=True):
            parameter.copy_(saved)
