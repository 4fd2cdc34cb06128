"""The epoch loop: the only one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from st_pipeline.data.protocols import Part
from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.forecasts import validation_error
from st_pipeline.training.memory import Plan
from st_pipeline.training.objective import Objective
from st_pipeline.training.pieces import workers
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph

WATCHED_DIGITS = 6  # the last ones may depend on the number of threads


@dataclass(frozen=True)
class Epoch:
    """Losses of one pass over the training windows, and what is watched of the model after it."""

    index: int
    loss: float
    validation: float
    seconds: float
    watched: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """History of a training; the forecaster holds the weights of `best` afterwards."""

    epochs: tuple[Epoch, ...]
    best: int
    seconds: float

    @property
    def watched(self) -> dict[str, list[float]]:
        """What was watched after every epoch, by name."""
        names = self.epochs[0].watched if self.epochs else ()
        return {name: [float(f"{epoch.watched[name]:.{WATCHED_DIGITS}g}") for epoch in self.epochs] for name in names}


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
    plan: Plan | None = None,
) -> FitResult:
    """Train until the validation error has not improved for more than `patience` epochs, and keep the best weights.

    Args:
        plan: how many windows memory allows at a time, on how many threads. A batch's gradients are added up over
            its pieces, so that its loss is the same but for the order of the sums.

    Raises:
        InputError: the loss is no finite number.
    """
    parameters = [parameter for parameter in forecaster.parameters() if parameter.requires_grad]
    rows = selection.rows
    train, validation, graph, counted = _selected(selection, train, validation, graph)
    on_cuda = train.starts.device.type == "cuda"
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True, capturable=on_cuda
    )
    objective = Objective(forecaster, train, graph, settings, counted, plan.windows if plan else None)
    starts = (train.starts if selection.windows is None else train.starts[selection.windows])[:: settings.stride]
    if not len(starts):
        raise InputError("the strategy chose no window of this period to train on; expected at least one")
    history: list[Epoch] = []
    kept = [*parameters, *forecaster.buffers()]
    best, best_error, best_state = 0, math.inf, _snapshot(kept)
    begin = time.perf_counter()
    threads = plan.threads if plan else 1
    with (
        workers(train.starts.device, threads, splits=forecaster.divisible) as team,
        restricted(forecaster, rows),
        as_in_evaluation(*_frozen(forecaster)),
    ):
        for index in range(settings.epochs):
            tick = time.perf_counter()
            _set_rate(optimiser, settings, index)
            order = starts[torch.randperm(len(starts), generator=generator).to(starts.device)]
            losses = []
            for batch in order.split(settings.batch):
                optimiser.zero_grad(set_to_none=True)
                penalty = strategy.penalty(forecaster)
                if penalty.requires_grad:
                    penalty.backward()
                loss = objective.backward(batch, team)
                if settings.clip is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
                optimiser.step()
                losses.append(loss + penalty.detach())
            mean = float(torch.stack(losses).mean())
            error = validation_error(forecaster, validation, graph, settings, workers=team, most=objective.most)
            if not math.isfinite(mean) or not math.isfinite(error):
                raise InputError(f"training diverged in epoch {index + 1} (loss {mean}); lower training.learning_rate")
            history.append(Epoch(index + 1, mean, error, time.perf_counter() - tick, forecaster.watched()))
            if progress:
                progress(history[-1])
            if error <= best_error:
                best, best_error, best_state = index + 1, error, _snapshot(kept)
            elif index + 1 - best > settings.patience:
                break
    _restore(kept, best_state)
    return FitResult(tuple(history), best, time.perf_counter() - begin)


def _selected(
    selection: Selection, train: Part, validation: Part, graph: Graph
) -> tuple[Part, Part, Graph, Tensor | None]:
    """Both parts, the graph and the nodes whose targets count, as a selection leaves them.

    Where the counted nodes have no scored cell in the validation part, all of its nodes judge the training.
    """
    rows, nodes = selection.rows, selection.nodes
    if rows is not None:
        graph = selection.graph or graph.subgraph(rows)
        train, validation = train.of_nodes(rows), validation.of_nodes(rows)
        nodes = None if nodes is None else nodes[rows]
    if nodes is not None and bool((scored := validation.scored & nodes).any()):
        validation = replace(validation, scored=scored)
    return train, validation, graph, nodes


def _set_rate(optimiser: torch.optim.Optimizer, settings: Settings, epoch: int) -> None:
    """Constant, lower after each milestone, or a half cosine to a hundredth of the rate in the last epoch."""
    if settings.decay == "none":
        return
    if settings.decay == "steps":
        share = settings.factor ** sum(epoch >= milestone for milestone in settings.milestones)
    else:
        share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * epoch / max(1, settings.epochs - 1)))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * share


def _frozen(forecaster: Forecaster) -> list[nn.Module]:
    """Modules with running statistics of which nothing is trained: they work as in evaluation, and keep them."""
    return [
        part
        for part in forecaster.modules()
        if next(part.buffers(), None) is not None
        and next(part.parameters(), None) is not None
        and not any(own.requires_grad for own in part.parameters())
    ]


def _snapshot(kept: list[Tensor]) -> list[Tensor]:
    return [part.detach().clone() for part in kept]


def _restore(kept: list[Tensor], state: list[Tensor]) -> None:
    with torch.no_grad():
        for part, saved in zip(kept, state, strict=True):
            part.copy_(saved)
