"""STKEC (T-ITS 2023): new, drifted or influential, and random sensors, with elastic weights and a memory."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from st_pipeline.layers.pattern_memory import PatternMemory
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival, Network
from st_pipeline.strategies.parts.chosen_sensors import ChosenSensors
from st_pipeline.strategies.parts.daily_patterns import cluster, daily_profiles
from st_pipeline.strategies.parts.neighbourhood import with_targets
from st_pipeline.strategies.parts.node_drift import drift_scores, feature_blocks
from st_pipeline.strategies.parts.node_influence import influences
from st_pipeline.strategies.parts.options import check_least, check_shares
from st_pipeline.strategies.parts.sensors import kept, measured, newcomers, rows_of, shuffled
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class KnowledgeExpansion(ChosenSensors):
    """Later periods train on the neighbourhood of new sensors, a few that matter and a few at random.

    The weights, those of a memory among them, are held near the last. A model with `node_clusters` (backbone `stkec`)
    is told in the first period which daily pattern each sensor has. Paper and public code differ (continual-methods,
    section 4.2); each reading is an option.

    Args:
        detect: old sensors that are trained on for being `selection`'s first.
        random: sensors that are trained on by chance.
        share: of the network that is trained on at least, filled up by chance.
        selection: sensors whose features have drifted most (EAC's reproduction), or whose error is influenced most
            by training on the new ones (paper); without a new sensor on the whole network.
        strength: as in `ChosenSensors`, like `fisher` and `hops`.
        published: the neighbourhood, the unstandardised features, the NaN and the drawing with replacement of the
            public code.

    Raises:
        InputError: a count, hops or strength is negative, or the share outside 0..1.
    """

    def __init__(
        self,
        *,
        detect: int = 10,
        random: int = 10,
        share: float = 0.1,
        selection: Literal["drift", "influence"] = "drift",
        strength: float = 5e-4,
        fisher: Literal["consolidated", "arrival"] = "consolidated",
        hops: int = 2,
        published: bool = False,
    ) -> None:
        super().__init__("stkec", strength=strength, fisher=fisher, hops=hops, published=published)
        check_least("stkec", detect=detect, random=random)
        check_shares("stkec", share=share)
        self.detect = detect
        self.random = random
        self.share = share
        self.detect_by = selection

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        assert isinstance(period, Arrival)
        if period.index == 0:
            self.choose_all()
            forecaster = super().prepare(forecaster, period, nodes)
            _tell_clusters(forecaster, period)
            return forecaster
        earlier = period.previous if self.detect_by == "drift" else None
        before = self._features(forecaster, earlier, period) if earlier else None
        forecaster = super().prepare(forecaster, period, nodes)
        _forget_clusters(forecaster)
        ranked = rows_of(nodes, ())
        if self.detect_by == "influence":
            ranked = _by_influence(forecaster, period)
        elif earlier and before is not None:
            ranked = self._by_drift(earlier, before, period, self._features(forecaster, period.network, period))
        self.choose(self._rows(ranked[: self.detect], period, nodes), forecaster, period)
        return forecaster

    def consolidate(self, forecaster: Forecaster, period: Period) -> None:
        _forget_clusters(forecaster)
        super().consolidate(forecaster, period)

    def _features(self, forecaster: Forecaster, network: Network, period: Arrival) -> Tensor:
        return feature_blocks(forecaster, network, steps_per_day=period.steps_per_day, raw=self.published)

    def _by_drift(self, earlier: Network, before: Tensor, period: Arrival, after: Tensor) -> Tensor:
        """Rows of the retained sensors that were measured in both periods' last days, most drifted first."""
        was, now = kept(earlier.nodes, period.network.nodes)
        scores = drift_scores(before[:, was], after[:, now], nan_is_most=self.published).cpu()
        heard = measured(earlier, period)[was] & measured(period.network, period)[now]
        return now[heard][scores[heard].argsort(descending=True, stable=True)]

    def _rows(self, detected: Tensor, period: Arrival, nodes: NodeSet) -> Tensor:
        """Rows to train on: new, detected and random ones, and random others until there are enough."""
        train = period.network.train
        if self.published:
            drawn = torch.randint(len(nodes), (self.random,), generator=period.generator)
        else:
            drawn = shuffled(with_targets(rows_of(nodes, nodes.retained), train), period.generator)[: self.random]
        chosen = torch.cat([newcomers(nodes), detected, drawn])
        chosen = with_targets(chosen.unique(), train)
        others = torch.ones(len(nodes), dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
        missing = max(0, int(self.share * len(nodes)) - len(chosen))
        return torch.cat([chosen, shuffled(with_targets(others, train), period.generator)[:missing]])


def _by_influence(forecaster: Forecaster, period: Arrival) -> Tensor:
    """Rows of the retained sensors with targets, those first whose error falls most by training on the new ones."""
    network = period.network
    nodes = network.nodes
    sources = rows_of(nodes, (*nodes.added, *nodes.returned) or nodes.ids)
    scores = influences(forecaster, network, sources, generator=period.generator).cpu()
    old = with_targets(rows_of(nodes, nodes.retained), network.train)
    return old[scores[old].argsort(descending=True, stable=True)]


def _tell_clusters(forecaster: Forecaster, period: Arrival) -> None:
    """Which cluster of daily profiles each node belongs to, for a model that can be told."""
    memory = getattr(forecaster, "memory", None)
    if hasattr(forecaster, "node_clusters") and isinstance(memory, PatternMemory):
        train = period.network.train
        profiles = daily_profiles(train, steps_per_day=period.steps_per_day)
        _, labels = cluster(profiles, len(memory), period.generator)
        forecaster.node_clusters = labels.to(train.truth.device)


def _forget_clusters(forecaster: Forecaster) -> None:
    """No clusters: those of a first period mean nothing to another network, and they are no part of the Fisher."""
    if hasattr(forecaster, "node_clusters"):
        forecaster.node_clusters = None  # type: ignore[assignment]
