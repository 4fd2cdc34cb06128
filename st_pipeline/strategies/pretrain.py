"""Pretrain-ST: trained in the first period, used unchanged ever after."""

from __future__ import annotations

from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class Pretrain(Strategy):
    """The lower control: what is lost by never learning again (EAC, Section 5.1)."""

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        return Selection(train=period.index == 0)
