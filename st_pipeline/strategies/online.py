"""Online-ST-AN: every period continues training everything on all nodes."""

from __future__ import annotations

from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Strategy


@STRATEGIES.register
class Online(Strategy):
    """Fine-tuning of the previous model without a guard against forgetting (EAC, Section 5.1)."""
