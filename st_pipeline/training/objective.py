"""The loss of a batch and its gradients, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from st_pipeline.data.protocols import Part
from st_pipeline.models.base import Criterion, Forecaster
from st_pipeline.training.pieces import Workers, pieces_of, workers
from st_pipeline.training.ranks import ALONE, Ranks
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, Target

Result = tuple[Tensor, tuple[Tensor | None, ...]]  # loss and gradients of a piece


def make_criterion(part: Part, settings: Settings, nodes: Tensor | None = None) -> Criterion:
    """Mean error of some windows; a cell counts by its sensor's deviation, so the loss is in the unit of the readings.

    Huber's loss turns from a parabola into a line at an error of one unit, and so is half a unit below the MAE there.

    Args:
        nodes: (N,) bool, the nodes whose targets count; all of them if left out.
    """
    scale = torch.ones_like(part.scaler.scale[:, 0]) if part.raw_target else part.scaler.scale[:, 0]
    weight = scale / scale.mean()
    everything = nodes is None and (not settings.masked_loss or part.windows.complete)

    def criterion(forecast: Tensor, target: Target) -> Tensor:
        wanted = target.values
        cells: Tensor | int = wanted.numel()
        if not everything:
            counted = target.observed if settings.masked_loss else torch.ones_like(target.observed)
            counted = counted if nodes is None else counted & nodes
            wanted = torch.where(counted, wanted, forecast.detach())  # no error where nothing counts
            cells = counted.sum().clamp(min=1)
        if settings.loss == "mse":
            return nn.functional.mse_loss(forecast, wanted, reduction="sum") / cells
        if settings.loss == "huber":
            turned = nn.functional.huber_loss(forecast * scale, wanted * scale, reduction="sum")
            return turned / (scale.mean() * cells)
        return ((forecast - wanted).abs() * weight).sum() / cells

    return criterion


def count_targets(part: Part, settings: Settings, nodes: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """How many cells `make_criterion` averages over, as a function of the windows' starts (B,)."""
    observed = part.windows.target_observed if nodes is None else part.windows.target_observed[:, nodes]
    if not settings.masked_loss:
        observed = torch.ones_like(observed)
    before = nn.functional.pad(observed.sum(1).cumsum(0), (1, 0))  # cells before each step
    span, window = part.windows.span, part.windows.window
    return lambda starts: (before[starts + span] - before[starts + window]).sum()


@dataclass(frozen=True)
class Objective:
    """The training loss of a model on one part.

    Attributes:
        nodes: (N,) bool, the nodes whose targets count; all of them if left out.
        most: windows that memory allows at a time.
    """

    forecaster: Forecaster
    part: Part
    graph: Graph
    settings: Settings
    nodes: Tensor | None = None
    most: int | None = None

    def backward(self, batch: Tensor, team: Workers) -> Tensor:
        """Loss of the windows that start at `batch`; its gradients are added to those of the trainable parameters."""
        parameters = [parameter for parameter in self.forecaster.parameters() if parameter.requires_grad]
        pieces = self.pieces(batch, least=team.ranks.size)
        cells = self._cells(batch).clamp(min=1) if len(pieces) > 1 else None

        def work(piece: Tensor) -> Result:
            window, target = self.part.windows.gather(piece)
            loss = self.forecaster.training_loss(window, target, self.graph, self._criterion)
            if cells is not None:
                loss = loss * (self._cells(piece) / cells)
            return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

        losses = []
        for loss, gradients in self._worked(work, pieces, team, parameters):
            losses.append(loss)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is None:
                    continue
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)  # in the parameter's own layout, as optimisers need it
                parameter.grad.add_(gradient)
        return torch.stack(losses).sum()

    def pieces(self, batch: Tensor, *, least: int = 1) -> list[Tensor]:
        """What is worked on at a time, on a GPU in `least` pieces."""
        if not self.forecaster.divisible:
            return [batch]
        return pieces_of(batch, self.part.truth.shape[1], most=self.most, least=least)

    @staticmethod
    def _worked(
        work: Callable[[Tensor], Result], pieces: Sequence[Tensor], team: Workers, parameters: Sequence[Tensor]
    ) -> Iterable[Result]:
        if team.ranks.size == 1:
            return team.map(work, pieces)
        packed = team.map_tensors(lambda piece: _pack(*work(piece), parameters), pieces)
        return [_unpack(one, parameters) for one in packed]

    @cached_property
    def _criterion(self) -> Criterion:
        return make_criterion(self.part, self.settings, self.nodes)

    @cached_property
    def _cells(self) -> Callable[[Tensor], Tensor]:
        return count_targets(self.part, self.settings, self.nodes)


def _pack(loss: Tensor, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """A loss, which gradients there are, and the gradients, in one row."""
    there = loss.new_tensor([gradient is not None for gradient in gradients])
    zeros = (torch.zeros_like(part) if one is None else one for one, part in zip(gradients, like, strict=True))
    return torch.cat([loss.reshape(1), there, *(one.reshape(-1) for one in zeros)])


def _unpack(row: Tensor, like: Sequence[Tensor]) -> Result:
    loss, there, flat = row.split([1, len(like), sum(part.numel() for part in like)])
    parts = flat.split([part.numel() for part in like])
    gradients = (one.view(part.shape) if known else None for one, part, known in zip(parts, like, there, strict=True))
    return loss[0], tuple(gradients)


def batch_gradients(
    objective: Objective, batches: Iterable[Tensor], threads: int, ranks: Ranks = ALONE
) -> Iterator[list[Tensor]]:
    """Gradients of the loss of each batch, one tensor a trainable parameter; those of the parameters are cleared."""
    forecaster = objective.forecaster
    parameters = [parameter for parameter in forecaster.parameters() if parameter.requires_grad]
    with workers(objective.part.starts.device, threads, splits=forecaster.divisible, ranks=ranks) as team:
        for batch in batches:
            forecaster.zero_grad(set_to_none=True)
            objective.backward(batch, team)
            yield [torch.zeros_like(part) if part.grad is None else part.grad.clone() for part in parameters]
    forecaster.zero_grad(set_to_none=True)
