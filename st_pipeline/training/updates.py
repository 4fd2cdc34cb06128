"""One period's update of one model, from stored inputs to checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.model_config import ModelConfig
from st_pipeline.progress import tell
from st_pipeline.training.checkpoint import CHECKPOINTS, BySeed, Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.training.processes import train_together
from st_pipeline.training.resume import Journal
from st_pipeline.training.state import Epoch
from st_pipeline.types import NodeSet

Network = Mapping[str, Mapping[str, Any]]
INPUTS = ("tensor", "adjacency", "node_set")


def period_data(config: StreamConfig, key: str, network: Network) -> PeriodData:
    """The data of one period from mappings `tensor`, `adjacency` and `node_set` by period key."""
    tensor: SeriesTensor = network["tensor"][key]
    adjacency: Adjacency = network["adjacency"][key]
    nodes: NodeSet = network["node_set"][key]
    return PeriodData(config.calendar.find(key), nodes, tensor, adjacency.graph())


def update(
    config: StreamConfig,
    model: ModelConfig,
    key: str,
    *,
    network: Network,
    previous: Mapping[str, BySeed],
    compute: Compute,
    log: Callable[[str], object] = len,
    journal: Journal | None = None,
) -> dict[str, dict[int, Checkpoint]]:
    """Train a model on a period with each of its seeds, each from its own previous period.

    Args:
        network: the inputs of this period and, after the first, of the previous one.
        previous: part -> seed -> checkpoint after the previous period; empty in the first.
        journal: files of this update, from which it goes on if it was cut off: seeds that were finished are taken
            from there, the one that was in training goes on between the same two batches.

    Returns:
        part -> seed -> checkpoint.

    Raises:
        InputError: the predecessor is missing a part, is not this model's, or was trained on data that have changed.
    """
    if compute.processes > 1:
        return _by_processes(config, model, key, network, previous, compute, log, journal)
    data = period_data(config, key, network)
    before, earlier = None, None
    if data.period.index:
        before = config.calendar.period(data.period.index - 1).key
        earlier = period_data(config, before, network)
    trained: dict[str, dict[int, Checkpoint]] = {part: {} for part in model.parts}
    for seed in model.runs:
        learner = Learner(config, model, seed)
        last = {part: _of_seed(checkpoints, seed) for part, checkpoints in previous.items() if checkpoints}
        if before:
            learner.verify(last, expected_period=before, data_digest=earlier.digest if earlier else None)
        progress = _progress(f"{config.name}/{model.name} of {key}", seed if model.seeds else None, log)
        record = journal.of(seed) if journal else None
        parts = learner.learn(
            data, last or None, compute=compute, earlier=earlier, progress=progress, log=log, record=record
        )
        for part, checkpoint in parts.items():
            trained[part][seed] = checkpoint
    return trained


def _by_processes(
    config: StreamConfig,
    model: ModelConfig,
    key: str,
    network: Network,
    previous: Mapping[str, BySeed],
    compute: Compute,
    log: Callable[[str], object],
    journal: Journal | None,
) -> dict[str, dict[int, Checkpoint]]:
    """The same by several processes; by one where the model's batches cannot be divided."""
    data, what = period_data(config, key, network), f"{config.name}/{model.name} of {key}"
    keys = [config.calendar.period(data.period.index - 1).key, key] if data.period.index else [key]
    given = {name: {at: network[name][at] for at in keys} for name in INPUTS}
    work = _Update(config, model, key, given, {part: CHECKPOINTS.dump(one) for part, one in previous.items()})
    if not Learner(config, model, model.runs[0]).need(data).divisible:
        log(
            f"{what}: its windows depend on their batch, or it draws numbers; one process of {compute.processes} trains"
        )
        return work(replace(compute, processes=1), log, journal)
    found = train_together(work, what=what, compute=compute, log=log, journal=journal)
    return {part: found[part] for part in model.parts}


@dataclass(frozen=True)
class _Update:
    """`update` as it is handed to other processes."""

    config: StreamConfig
    model: ModelConfig
    key: str
    network: Network
    previous: Mapping[str, bytes]

    def __call__(
        self, compute: Compute, log: Callable[[str], object], journal: Journal | None
    ) -> dict[str, dict[int, Checkpoint]]:
        previous = {part: CHECKPOINTS.load(payload) for part, payload in self.previous.items()}
        return update(
            self.config,
            self.model,
            self.key,
            network=self.network,
            previous=previous,
            compute=compute,
            log=log,
            journal=journal,
        )


def _of_seed(checkpoints: BySeed, seed: int) -> Checkpoint:
    """A seed's checkpoint, or where it has none another's, which `verify` then names as what it is."""
    return checkpoints.get(seed) or next(iter(checkpoints.values()))


def _progress(what: str, seed: int | None, log: Callable[[str], object]) -> Callable[[Epoch], None]:
    """Tells of every epoch and logs each tenth."""
    prefix = f"seed {seed}, " if seed is not None else ""

    def told(epoch: Epoch) -> None:
        text = f"epoch {epoch.index}: loss {epoch.loss:.4g}, validation {epoch.validation:.4g}, {epoch.seconds:.2f} s"
        tell(what, prefix + text)
        if epoch.index % 10 == 1:
            log(prefix + text)

    return told
