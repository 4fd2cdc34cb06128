"""Expand and Compress (EAC, ICLR 2025): a backbone learned once, prompts that grow with the network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival, Selection, Strategy
from st_pipeline.strategies.parts.freezing import train_new_rows
from st_pipeline.types import NodeSet, Period

FEWEST = 2  # sensors that a first period trains on


@STRATEGIES.register
class ExpandAndCompress(Strategy):
    """Period 1 trains everything; later periods expand A by the new sensors' rows and tune prompts alone.

    Of a ReLearner the rows of sensors are tuned as those of A are; what all sensors share is frozen with the backbone,
    and so is a seasonal skip. A backbone with rows of its own (e.g. STID, AGCRN) learns those of new sensors, which
    were drawn at random.

    The paper and its public code differ in what is tuned (continual-methods, section 3.3); each reading is an option,
    the default being the code's.

    Args:
        freeze: `backbone` after the first period, or `nothing` (the control: prompts without freezing), or
            `all_but_temporal`: what lies between the graph convolutions stays trainable, as in the public code of the
            universality study, whose freezing misses it (section 2.2).
        train_old_rows: tune the rows of retained sensors too (code: yes; Section 4.1 reads as if not).
        train_basis: tune B in every period (code), or in the `first` one alone (Appendix B.2 calls B fixed).
        first_nodes: share of the first period's sensors, at least 2 of them, that it trains on; a control of how small
            the network may be that a backbone is frozen after. The others' rows are learned from the second on.

    Raises:
        InputError: a share that is none, or rows that no period would train.
    """

    def __init__(
        self,
        *,
        freeze: Literal["backbone", "nothing", "all_but_temporal"] = "backbone",
        train_old_rows: bool = True,
        train_basis: Literal["always", "first"] = "always",
        first_nodes: float = 1.0,
    ) -> None:
        if not 0 < first_nodes <= 1:
            raise InputError(f"strategy 'eac': first_nodes is {first_nodes:g}; expected a share above 0, at most 1")
        if first_nodes < 1 and not train_old_rows:
            raise InputError(
                f"strategy 'eac': with first_nodes {first_nodes:g} the rows of the other sensors are learned later, "
                "and train_old_rows: false would never train them; change one of the two"
            )
        self.freeze = freeze
        self.train_old_rows = train_old_rows
        self.train_basis = train_basis
        self.first_nodes = first_nodes

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        parts = forecaster.parts()
        if "prompt_pool" not in parts:
            raise InputError(
                "strategy 'eac' tunes prompts, and this model has none; add `prompt_pool: {rank: 6}` to it"
            )
        spared = _temporal(parts["backbone"]) if self.freeze == "all_but_temporal" else None
        forecaster.expand(nodes)
        forecaster.requires_grad_()
        if period.index:
            parts["backbone"].requires_grad_(self.freeze == "nothing")
            train_new_rows(parts["backbone"])
            if spared is not None:
                spared.requires_grad_()
            self._restrict(parts["prompt_pool"], shared=self.train_basis == "always")
            if "seasonal_skip" in parts:
                parts["seasonal_skip"].requires_grad_(self.freeze == "nothing")
            if "relearner" in parts:
                self._restrict(parts["relearner"], shared=self.freeze == "nothing")
        return forecaster

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        if period.index or self.first_nodes == 1:
            return Selection()
        assert isinstance(period, Arrival)
        count = min(len(nodes), max(FEWEST, round(self.first_nodes * len(nodes))))
        drawn = torch.randperm(len(nodes), generator=period.generator)[:count].sort().values
        rows = drawn.to(period.network.train.truth.device)
        counted = torch.zeros(len(nodes), dtype=torch.bool, device=rows.device).index_fill(0, rows, True)
        return Selection(rows=rows, nodes=counted)

    def _restrict(self, part: nn.Module, *, shared: bool) -> None:
        """New rows of sensors are trained, old ones if they are to be, and what is the same for all if `shared`."""
        part.requires_grad_(shared)
        for table in node_tables(part).values():
            for kind, rows in table.named_parameters():
                rows.requires_grad_(kind == "appended" or self.train_old_rows)


def _temporal(backbone: nn.Module) -> nn.Module:
    """What lies between a backbone's graph convolutions.

    Raises:
        InputError: there is no such module.
    """
    temporal = getattr(backbone, "temporal", None)
    if not isinstance(temporal, nn.Module):
        raise InputError(
            "strategy 'eac' with freeze: all_but_temporal spares what lies between a backbone's graph convolutions, "
            "and this one has nothing called `temporal`; take backbone stgnn or universal, or freeze: backbone"
        )
    return temporal
