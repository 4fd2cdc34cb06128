"""Expand and Compress (EAC, ICLR 2025): a backbone learned once, prompts that grow with the network."""

from __future__ import annotations

from typing import Literal

from torch import nn

from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Strategy
from st_pipeline.types import NodeSet, Period


@STRATEGIES.register
class ExpandAndCompress(Strategy):
    """Period 1 trains everything; later periods expand A by the new sensors' rows and tune prompts alone.

    The paper and its public code differ in what is tuned (continual-methods, section 3.3); each reading is an option,
    the default being the code's.

    Args:
        freeze: `backbone` after the first period, or `nothing` (the control: prompts without freezing).
        train_old_rows: tune the rows of retained sensors too (code: yes; Section 4.1 reads as if not).
        train_basis: tune B in every period (code), or in the `first` one alone (Appendix B.2 calls B fixed).
    """

    def __init__(
        self,
        *,
        freeze: Literal["backbone", "nothing"] = "backbone",
        train_old_rows: bool = True,
        train_basis: Literal["always", "first"] = "always",
    ) -> None:
        self.freeze = freeze
        self.train_old_rows = train_old_rows
        self.train_basis = train_basis

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        parts = forecaster.parts()
        if "prompt_pool" not in parts:
            raise InputError(
                "strategy 'eac' tunes prompts, and this model has none; add `prompt_pool: {rank: 6}` to it"
            )
        forecaster.expand(nodes)
        forecaster.requires_grad_()
        if period.index:
            parts["backbone"].requires_grad_(self.freeze == "nothing")
            self._restrict(parts["prompt_pool"])
        return forecaster

    def _restrict(self, prompts: nn.Module) -> None:
        rows = {id(table.retained) for table in node_tables(prompts).values()}
        rows |= {id(table.appended) for table in node_tables(prompts).values()}
        for table in node_tables(prompts).values():
            table.retained.requires_grad_(self.train_old_rows)
        for parameter in prompts.parameters():
            if id(parameter) not in rows:
                parameter.requires_grad_(self.train_basis == "always")
