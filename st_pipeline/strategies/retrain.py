"""Retrain-ST: every period starts from scratch."""

from __future__ import annotations

from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Strategy
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class Retrain(Strategy):
    """All parameters are drawn anew and trained on the period alone (EAC, Section 5.1)."""

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        forecaster.expand(nodes)
        forecaster.reset()
        return forecaster.requires_grad_()
