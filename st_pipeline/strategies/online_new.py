"""Online-ST-NN: every period continues training around the new sensors alone."""

from __future__ import annotations

from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival, Selection, Strategy
from st_pipeline.strategies.parts.neighbourhood import train_on, with_targets
from st_pipeline.strategies.parts.options import check_least
from st_pipeline.strategies.parts.sensors import newcomers
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class OnlineNew(Strategy):
    """Fine-tuning on the new sensors and what lies around them; without a new sensor the model stays as it is.

    EAC, Section 5.1, and TrafficStream's "Expansible"; a sensor that returns is new, one that has nothing to learn
    from yet is not. Period 1 trains everything.

    Args:
        hops: how far around the new sensors the model sees.
        published: the neighbourhood as the public code finds it (continual-methods, section 4).

    Raises:
        InputError: hops is negative.
    """

    def __init__(self, *, hops: int = 2, published: bool = False) -> None:
        check_least("online_new", hops=hops)
        self.hops = hops
        self.published = published

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        if period.index == 0:
            return Selection()
        assert isinstance(period, Arrival)
        network = period.network
        new = newcomers(nodes)
        chosen = with_targets(new, network.train)
        return train_on(chosen, network.graph, hops=self.hops, published=self.published)
