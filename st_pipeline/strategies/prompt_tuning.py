"""The project's own default: what mixes sensors is learned once, whatever adapts to sensor, hour and day is tuned."""

from __future__ import annotations

from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Strategy
from st_pipeline.strategies.parts.freezing import freeze_shared
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class PromptTuning(Strategy):
    """Period 1 trains everything; later periods tune node prompts, calendar prompts, seasonal mixture and output layer.

    The graph convolutions and what lies between them stay as the first period left them, as in EAC (ICLR 2025,
    Section 4), whose node prompts this extends by prompts of time of day and day of week. A backbone says by
    `adaptive` which of its parts are meant; with none of them this is EAC. Of a ReLearner the rows of sensors and the
    last layer are tuned, and of a backbone with rows of its own (e.g. STID, AGCRN) those.
    """

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        forecaster.expand(nodes)
        forecaster.requires_grad_()
        if period.index:
            parts = forecaster.parts()
            for name in {"backbone", "relearner"} & parts.keys():
                freeze_shared(parts[name])
        return forecaster
