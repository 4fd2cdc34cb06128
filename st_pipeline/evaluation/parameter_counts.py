"""Published numbers of parameters beside those of the models built here, at the published sizes of the networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.published import (
    BackboneSize,
    Parameters,
    published_backbones,
    published_parameters,
    published_setting,
    published_streams,
)
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import count_parameters
from st_pipeline.strategies import strategies
from st_pipeline.training.learner import Learner
from st_pipeline.training.reproducibility import seeded
from st_pipeline.training.trained import BACKBONE
from st_pipeline.types import NodeSet, SeriesShape

STEPS_PER_DAY = 288


@dataclass(frozen=True)
class Counted:
    """A published number of parameters and ours, in the period with this index, of so many nodes."""

    entry: Parameters
    period: int
    nodes: int
    published: int
    ours: int

    @property
    def difference(self) -> int:
        """Ours minus published."""
        return self.ours - self.published


@dataclass(frozen=True)
class CountedBackbone:
    """A published number of parameters of a backbone alone, and ours with those that ours does without."""

    entry: BackboneSize
    ours: int

    @property
    def difference(self) -> int:
        """Ours and the unused ones, minus published."""
        return self.ours + self.entry.unused - self.entry.value


def counted_backbones() -> list[CountedBackbone]:
    """Every published number of parameters of a backbone alone beside ours; nothing is drawn, no memory taken."""
    found = []
    setting = {name: published_setting()[name] for name in ("window", "horizon")}
    for entry in published_backbones():
        shape = SeriesShape(**setting, channels=1, num_nodes=entry.nodes, steps_per_day=STEPS_PER_DAY)
        with torch.device("meta"):
            found.append(CountedBackbone(entry, count_parameters(backbones.build(entry.backbone, shape=shape))))
    return found


def counted() -> list[Counted]:
    """Every published number of parameters beside ours."""
    return [found for entry in published_parameters() for found in _counted(entry)]


def _counted(entry: Parameters) -> Iterator[Counted]:
    """Periods in order: the strategy hands the model on, as in a training, and nothing is trained."""
    archive = published_streams()[entry.stream]
    learner = Learner(_stream(archive.ours), entry.config(), seed=1)
    strategy = strategies.build(learner.model.strategy.spec())
    with seeded(learner.seed):
        forecaster = learner.build(archive.nodes[0])
        for index, (nodes, published) in enumerate(zip(archive.nodes, entry.values, strict=False)):
            if entry.counts == BACKBONE:
                ours = count_parameters(forecaster.parts()[BACKBONE])
            else:
                period = learner.stream.calendar.period(index)
                forecaster = strategy.prepare(forecaster, period, NodeSet.of(map(str, range(nodes)), period.key))
                ours = count_parameters(forecaster, trainable=entry.counts == "trained")
            if published is not None:
                yield Counted(entry, index, nodes, published, ours)


def _stream(name: str) -> StreamConfig:
    """A stream of the published setting without data: one channel, a year a period."""
    source = {"format": "npz", "readings": "{period}.npz"}
    periods = {"every": "year", "start": "2011", "nominal": True}
    document = {"name": name, "source": source, "step": "5min", "periods": periods, **published_setting()}
    return StreamConfig.model_validate(document)
