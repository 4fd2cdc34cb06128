"""Training on chosen sensors while the weights are held near where they were."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from st_pipeline.models.base import Forecaster
from st_pipeline.strategies.base import Arrival, Selection, Strategy
from st_pipeline.strategies.parts.elastic_weights import ElasticWeights
from st_pipeline.strategies.parts.neighbourhood import train_on
from st_pipeline.strategies.parts.options import check_least
from st_pipeline.types import NodeSet, Period


class ChosenSensors(Strategy):
    """Base of strategies that choose sensors in `prepare`, train on their neighbourhood, and hold the weights.

    Args:
        strength: of the penalty, lambda.
        fisher: when the importance of weights is measured: after a period's training on its data, for the next; or
            at the arrival of a period on the new data before training (public code).
        hops: how far around the chosen sensors the model sees.
        published: the neighbourhood as the public code finds it (continual-methods, section 4).

    Raises:
        InputError: hops or strength are negative.
    """

    def __init__(
        self, name: str, *, strength: float, fisher: Literal["consolidated", "arrival"], hops: int, published: bool
    ) -> None:
        check_least(name, strength=strength, hops=hops)
        self.fisher = fisher
        self.hops = hops
        self.published = published
        self.weights = ElasticWeights(strength)
        self.selection = Selection()

    def choose(self, chosen: Tensor, forecaster: Forecaster, period: Arrival) -> None:
        """Train on the neighbourhood of these rows; to be called in `prepare`."""
        self.selection = train_on(chosen, period.network.graph, hops=self.hops, published=self.published)
        if self.fisher == "arrival" and self.selection.train:
            self.anchor(forecaster, period)

    def choose_all(self) -> None:
        """Train on everything; to be called in `prepare`."""
        self.selection = Selection()

    def anchor(self, forecaster: Forecaster, period: Arrival) -> None:
        """Hold the weights where they are."""
        self.weights.anchor(forecaster, period.gradients(forecaster))

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        return self.selection

    def penalty(self, forecaster: Forecaster) -> Tensor:
        return self.weights.penalty(forecaster)

    def consolidate(self, forecaster: Forecaster, period: Period) -> None:
        assert isinstance(period, Arrival)
        if self.fisher == "consolidated":
            self.anchor(forecaster, period)

    def state(self) -> dict[str, Tensor]:
        return self.weights.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.weights.load_state(state)
