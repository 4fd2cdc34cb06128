"""The epoch loop: the only one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from st_pipeline.data.protocols import Part
from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.forecasts import validation_error
from st_pipeline.training.memory import Plan
from st_pipeline.training.objective import Objective
from st_pipeline.training.pieces import Workers, workers
from st_pipeline.training.ranks import ALONE
from st_pipeline.training.resume import Record
from st_pipeline.training.settings import Settings
from st_pipeline.training.state import Epoch, State
from st_pipeline.types import Graph

WATCHED_DIGITS = 6  # the last ones may depend on the number of threads


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
    record: Record | None = None,
    drawn_from: Mapping[str, torch.Generator] | None = None,
) -> FitResult:
    """Train until the validation error has not improved for more than `patience` epochs, and keep the best weights.

    Args:
        generator: of the order of the windows.
        plan: how many windows memory allows at a time, on how many threads. A batch's gradients are added up over
            its pieces, so that its loss is the same but for the order of the sums.
        record: where the training's state is kept; a training that was cut off goes on from there.
        drawn_from: further generators that the strategy draws from meanwhile.

    Raises:
        InputError: the loss is no finite number, or the state cannot be written.
    """
    apart = bool(plan and plan.ranks.size > 1)
    start = _start(forecaster, strategy, selection) if record or apart else ""
    parameters = [parameter for parameter in forecaster.parameters() if parameter.requires_grad]
    rows = selection.rows
    train, validation, graph, counted = _selected(selection, train, validation, graph)
    optimiser = _optimiser(parameters, settings)
    objective = Objective(forecaster, train, graph, settings, counted, plan.windows if plan else None)
    starts = (train.starts if selection.windows is None else train.starts[selection.windows])[:: settings.stride]
    if not len(starts):
        raise InputError("the strategy chose no window of this period to train on; expected at least one")
    state = State([*parameters, *forecaster.buffers()], optimiser, {**(drawn_from or {}), "shuffle": generator})
    if record:
        record.restore(state, start)
    threads, ranks = (plan.threads, plan.ranks) if plan else (1, ALONE)
    ranks.agree("what they begin from", f"{start} {state.place} {settings}", train.starts.device)
    with (
        workers(train.starts.device, threads, splits=forecaster.divisible, ranks=ranks) as team,
        restricted(forecaster, rows),
        as_in_evaluation(*_frozen(forecaster)),
    ):
        while not state.is_over(epochs=settings.epochs, patience=settings.patience):
            _set_rate(optimiser, settings, state.epoch)
            order = starts[state.order(len(starts)).to(starts.device)]
            for batch in order.split(settings.batch)[len(state.losses) :]:
                state.losses.append(_step(objective, batch, team, strategy, optimiser, settings))
                if record:
                    record.keep(state)
            mean = float(torch.stack(state.losses).mean())
            error = validation_error(forecaster, validation, graph, settings, workers=team, most=objective.most)
            if not math.isfinite(mean) or not math.isfinite(error):
                raise InputError(
                    f"training diverged in epoch {state.epoch + 1} (loss {mean}); lower training.learning_rate"
                )
            seconds = time.perf_counter() - state.tick
            state.close(Epoch(state.epoch + 1, mean, error, seconds, forecaster.watched()))
            if progress:
                progress(state.history[-1])
            if record:
                record.keep(state)
    state.take_best()
    return FitResult(tuple(state.history), state.best, time.perf_counter() - state.begin)


def _optimiser(parameters: list[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
        capturable=parameters[0].device.type == "cuda",
    )


def _step(
    objective: Objective,
    batch: Tensor,
    team: Workers,
    strategy: Strategy,
    optimiser: torch.optim.Optimizer,
    settings: Settings,
) -> Tensor:
    """One step of the optimiser; returns the loss of the batch with the penalty."""
    optimiser.zero_grad(set_to_none=True)
    penalty = strategy.penalty(objective.forecaster)
    if penalty.requires_grad:
        penalty.backward()
    loss = objective.backward(batch, team)
    if settings.clip is not None:
        trained = [part for group in optimiser.param_groups for part in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
    optimiser.step()
    return loss + penalty.detach()


def _start(forecaster: Forecaster, strategy: Strategy, selection: Selection) -> str:
    """Digest of what a training begins from: weights, what the strategy remembers, and what it chose."""
    tensors = {f"weights.{name}": value for name, value in forecaster.state_dict().items()}
    tensors |= {f"strategy.{name}": value for name, value in strategy.state().items()}
    chosen = {"windows": selection.windows, "nodes": selection.nodes, "rows": selection.rows}
    tensors |= {f"chosen.{name}": value for name, value in chosen.items() if value is not None}
    trained = [name for name, part in forecaster.named_parameters() if part.requires_grad]
    return Checkpoint(tensors, {"trained": trained}, {}).digest


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
