"""Low-rank adaptation: a backbone learned once, and an adapter of its own for every later period."""

from __future__ import annotations

from st_pipeline.errors import InputError
from st_pipeline.models.base import Forecaster
from st_pipeline.models.lora import Adapters
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Strategy
from st_pipeline.strategies.parts.freezing import freeze_shared, train_new_rows
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class LowRankAdaptation(Strategy):
    """Period 1 trains the model without adapters; each later one appends an adapter and freezes the older ones.

    Node prompts and a seasonal skip, where the model has them, are trained in every period; so are the rows of sensors
    of a ReLearner and its last layer, while the rest of it is treated as the backbone is.

    Args:
        freeze_backbone: after the first period, as LoRA's authors do (Hu et al. 2021, Section 4.1); the class in
            EAC's public code fine-tunes it as well.
    """

    def __init__(self, *, freeze_backbone: bool = True) -> None:
        self.freeze_backbone = freeze_backbone

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        parts = forecaster.parts()
        adapters = parts.get("lora")
        if not isinstance(adapters, Adapters):
            raise InputError("strategy 'lora' trains adapters, and this model has none; add `lora: {rank: 6}` to it")
        forecaster.expand(nodes)
        forecaster.requires_grad_()
        if period.index:
            parts["backbone"].requires_grad_(not self.freeze_backbone)
            train_new_rows(parts["backbone"])
            if self.freeze_backbone and "relearner" in parts:
                freeze_shared(parts["relearner"])
            adapters.append()
        return forecaster
