"""STKEC (T-ITS 2023): new, drifted or influential, and random sensors, with elastic weights and a memory."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.layers.pattern_memory import PatternMemory
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival, Network, Selection, Strategy
from st_pipeline.strategies.parts.daily_patterns import cluster, daily_profiles
from st_pipeline.strategies.parts.elastic_weights import ElasticWeights
from st_pipeline.strategies.parts.neighbourhood import train_on, with_targets
from st_pipeline.strategies.parts.node_drift import drift_scores, feature_blocks
from st_pipeline.strategies.parts.node_influence import influences
from st_pipeline.strategies.parts.sensors import measured, newcomers, rows_of, shuffled
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class KnowledgeExpansion(Strategy):
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
        strength: of the penalty, lambda.
        fisher: when the importance of weights is measured: after a period's training on its data, for the next; or
            at the arrival of a period on the new data before training (public code).
        hops: how far around the chosen sensors the model sees.
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
        for option, value in {"detect": detect, "random": random, "hops": hops, "strength": strength}.items():
            if value < 0:
                raise InputError(f"strategy 'stkec': {option} is {value}, expected 0 or more")
        if not 0 <= share <= 1:
            raise InputError(f"strategy 'stkec': share is {share}, expected a share from 0 to 1")
        self.detect = detect
        self.random = random
        self.share = share
        self.selection = selection
        self.fisher = fisher
        self.hops = hops
        self.published = published
        self.weights = ElasticWeights(strength)
        self._selection = Selection()

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        assert isinstance(period, Arrival)
        if period.index == 0:
            self._selection = Selection()
            forecaster = super().prepare(forecaster, period, nodes)
            _tell_clusters(forecaster, period)
            return forecaster
        earlier = period.previous if self.selection == "drift" else None
        before = self._features(forecaster, earlier, period) if earlier else None
        forecaster = super().prepare(forecaster, period, nodes)
        _forget_clusters(forecaster)
        ranked = rows_of(nodes, ())
        if self.selection == "influence":
            ranked = _by_influence(forecaster, period)
        elif earlier and before is not None:
            ranked = self._by_drift(earlier, before, period, self._features(forecaster, period.network, period))
        chosen = self._choose(ranked[: self.detect], period, nodes)
        self._selection = train_on(chosen, period.network.graph, hops=self.hops, published=self.published)
        if self.fisher == "arrival" and self._selection.train:
            self.weights.anchor(forecaster, period.gradients(forecaster))
        return forecaster

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        return self._selection

    def penalty(self, forecaster: Forecaster) -> Tensor:
        return self.weights.penalty(forecaster)

    def consolidate(self, forecaster: Forecaster, period: Period) -> None:
        assert isinstance(period, Arrival)
        _forget_clusters(forecaster)
        if self.fisher == "consolidated":
            self.weights.anchor(forecaster, period.gradients(forecaster))

    def state(self) -> dict[str, Tensor]:
        return self.weights.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.weights.load_state(state)

    def _features(self, forecaster: Forecaster, network: Network, period: Arrival) -> Tensor:
        return feature_blocks(forecaster, network, steps_per_day=period.steps_per_day, raw=self.published)

    def _by_drift(self, earlier: Network, before: Tensor, period: Arrival, after: Tensor) -> Tensor:
        """Rows of the retained sensors that were measured in both periods' last days, most drifted first."""
        nodes, there = period.network.nodes, set(earlier.nodes.ids)
        names = [name for name in nodes.retained if name in there]
        was, now = rows_of(earlier.nodes, names), rows_of(nodes, names)
        scores = drift_scores(before[:, was], after[:, now], nan_is_most=self.published).cpu()
        heard = measured(earlier, period)[was] & measured(period.network, period)[now]
        return now[heard][scores[heard].argsort(descending=True, stable=True)]

    def _choose(self, detected: Tensor, period: Arrival, nodes: NodeSet) -> Tensor:
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
