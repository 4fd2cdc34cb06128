"""One pass of a model over the windows of a part: of the whole network, or shard by shard where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import Part
from st_pipeline.errors import InputError
from st_pipeline.evaluation.metrics import loss_sums
from st_pipeline.models.base import Forecaster
from st_pipeline.training.compute import Compute, Usage
from st_pipeline.training.forecasts import forecasts, map_forecasts
from st_pipeline.training.learner import Learner
from st_pipeline.training.memory import Need, Plan
from st_pipeline.training.pieces import Workers
from st_pipeline.training.shards import Shard, map_shards, shards_of
from st_pipeline.types import Graph

T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """A model with what it is to forecast.

    Attributes:
        shards: none for the whole network; else part and graph are on the processor, the model is on the device.
        most: windows that memory allows at a time.
    """

    forecaster: Forecaster
    part: Part
    graph: Graph
    device: torch.device
    team: Workers
    most: int
    shards: tuple[Shard, ...] = ()

    def loss_sums(self) -> tuple[Tensor, Tensor]:
        """`error_sums` over all windows (5, H, N), and sums over the nodes of every window (5, S, H)."""
        if not self.shards:
            model, part, graph = self.forecaster, self.part, self.graph
            found = list(map_forecasts(model, part, graph, loss_sums, workers=self.team, most=self.most))
            return torch.stack([sums for sums, _ in found]).sum(0), torch.cat([sums for _, sums in found], dim=1)
        horizon, nodes = self.part.windows.horizon, self.graph.num_nodes
        errors = torch.zeros(5, horizon, nodes, dtype=torch.float64)
        windows = torch.zeros(5, len(self.part.starts), horizon, dtype=torch.float64)
        for shard, found in self._by_shards(self.part, loss_sums):
            errors[..., shard.nodes] = torch.stack([sums for sums, _ in found]).sum(0).cpu()
            windows += torch.cat([sums for _, sums in found], dim=1).cpu()
        return errors, windows

    def forecasts(self, starts: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Forecast, truth and scored cells (B, H, N) of the windows that begin at `starts`, in order."""
        part = replace(self.part, starts=starts)
        if not self.shards:
            yield from forecasts(self.forecaster, part, self.graph, most=self.most)
            return
        size = len(starts), part.windows.horizon, self.graph.num_nodes
        whole = torch.empty(size), torch.empty(size), torch.empty(size, dtype=torch.bool)
        for shard, found in self._by_shards(part, _all):
            for kind, cells in enumerate(whole):
                cells[..., shard.nodes] = torch.cat([one[kind] for one in found]).cpu()
        yield whole

    def _by_shards(self, part: Part, each: Callable[[Tensor, Tensor, Tensor], T]) -> Iterator[tuple[Shard, list[T]]]:
        yield from map_shards(
            self.forecaster,
            part,
            self.graph,
            list(self.shards),
            each,
            device=self.device,
            workers=self.team,
            most=self.most,
        )


def _all(forecast: Tensor, truth: Tensor, scored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return forecast, truth, scored


@dataclass(frozen=True)
class Division:
    """How an evaluation is cut so that it fits a device; one shard is the whole network."""

    usage: Usage
    plan: Plan
    count: int = 1
    hops: int = 0

    @property
    def home(self) -> torch.device:
        """Where arrays and graphs lie."""
        return self.usage.device if self.count == 1 else torch.device("cpu")

    def shards(self, graph: Graph) -> tuple[Shard, ...]:
        """Those of a network; none for the whole."""
        return () if self.count == 1 else tuple(shards_of(graph, self.count, hops=self.hops))


@contextmanager
def divided(learner: Learner, data: PeriodData, compute: Compute, purpose: str) -> Iterator[Division]:
    """A guarded evaluation of a period, by as few shards as memory allows where the whole network does not fit.

    Raises:
        InputError: the device is missing, or too full for a shard, or for the network of a model without `hops`.
    """
    need = learner.need(data)
    usage = compute.choose(0, purpose)
    if need.least <= usage.allowed_bytes:
        with learner.planned(data, compute, purpose) as (usage, plan):
            yield Division(usage, plan)
        return
    hops = learner.hops(len(data.nodes))
    if hops is None:
        _require_whole(compute, need, purpose)
        with learner.planned(data, compute, purpose) as (usage, plan):
            yield Division(usage, plan)
        return
    kept = need.resident if usage.device.type == "cpu" else 0  # the network's own arrays, beside a shard's
    count, shard = _fitting(learner, data, usage.allowed_bytes - kept, hops)
    with compute.guard(kept + shard.least, f"{purpose} by {count} shards") as usage:
        usage.notes.append(f"{count} shards")
        plan = shard.plan(usage.allowed_bytes - kept, threads=compute.threads, gpu=usage.device.type != "cpu")
        yield Division(usage, plan, count, hops)


def _fitting(learner: Learner, data: PeriodData, allowed: int, hops: int) -> tuple[int, Need]:
    """The smallest power of two of shards that fit, and what the largest needs; else as many as there are nodes."""
    count = 1
    while True:
        count = min(2 * count, len(data.nodes))
        largest = max(len(shard.rows) for shard in shards_of(data.graph, count, hops=hops))
        need = learner.need(data, nodes=largest)
        if need.least <= allowed or count == len(data.nodes):
            return count, need


def _require_whole(compute: Compute, need: Need, purpose: str) -> None:
    try:
        compute.choose(need.least, purpose)
    except InputError as error:
        raise InputError(
            f"{error}; the network cannot be cut into shards instead, since a forecast of this model depends on all "
            "sensors"
        ) from None
