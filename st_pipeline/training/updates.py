"""One period's update of one model, from stored inputs to checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from st_pipeline.config import ModelConfig, StreamConfig
from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.progress import tell
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.fit import Epoch
from st_pipeline.training.learner import Learner, PeriodData
from st_pipeline.types import NodeSet

Network = Mapping[str, Mapping[str, Any]]


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
    previous: Mapping[str, Checkpoint] | None,
    compute: Compute,
    log: Callable[[str], object] = len,
) -> dict[str, Checkpoint]:
    """Train a model on a period, from its own previous period.

    Args:
        network: the inputs of this period and, after the first, of the previous one.

    Raises:
        InputError: the predecessor is missing a part, is not this model's, or was trained on data that have changed.
    """
    learner = Learner(config, model)
    data = period_data(config, key, network)
    if data.period.index:
        before = config.calendar.period(data.period.index - 1).key
        digest = period_data(config, before, network).digest
        learner.verify(previous or {}, expected_period=before, data_digest=digest)

    def told(epoch: Epoch) -> None:
        text = f"epoch {epoch.index}: loss {epoch.loss:.4g}, validation {epoch.validation:.4g}, {epoch.seconds:.2f} s"
        tell(f"{config.name}/{model.name} of {key}", text)
        if epoch.index % 10 == 1:
            log(text)

    return learner.learn(data, previous, compute=compute, progress=told)
