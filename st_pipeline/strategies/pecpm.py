"""PECPM (KDD 2023): new, evolved and replayed sensors, with elastic weights and a bank of patterns."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.layers.pattern_memory import AttentionLabels, PatternMemory
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival
from st_pipeline.strategies.parts.chosen_sensors import ChosenSensors
from st_pipeline.strategies.parts.daily_patterns import Profiles, daily_profiles, distances
from st_pipeline.strategies.parts.neighbourhood import with_targets
from st_pipeline.strategies.parts.options import check_least, check_shares
from st_pipeline.strategies.parts.pattern_bank import PatternBank
from st_pipeline.strategies.parts.sensors import kept, newcomers, rows_of
from st_pipeline.types import NodeSet, Period

STABLE = 0.1  # of the replayed sensors


@STRATEGIES.register
class PatternExpansion(ChosenSensors):
    """Later periods train on the neighbourhood of new, evolved and replayed sensors; weights are held near the last.

    A sensor has evolved by the Wasserstein distance between its mean day of the period before and of this one. Replay
    means old sensors with their readings of this period: a tenth the most stable ones, the rest at random. A model
    with `attention_labels` (backbone `pecpm`) is told how much each sensor's mean day is like the patterns of a bank,
    which is built in the first period and takes in those of new and evolved sensors. After the public code
    (continual-methods, section 4.3).

    Args:
        evolved: share of the sensors that is trained on for having evolved most.
        replay: share that is trained on against forgetting.
        cap: share of the sensors beyond which chance decides, of new sensors too.
        capped: share that is then trained on.
        keep: patterns that a sensor's label names, those most like it.
        strength: as in `ChosenSensors`, like `fisher` and `hops`.
        published: the neighbourhood, the drawing with replacement and the shares rounded down of the public code;
            otherwise shares are rounded up, so that a small network has them too.

    Raises:
        InputError: a share is outside 0..1, `capped` is above `cap`, `keep` below 1, or hops or strength negative.
    """

    def __init__(
        self,
        *,
        evolved: float = 0.01,
        replay: float = 0.09,
        cap: float = 0.2,
        capped: float = 0.15,
        keep: int = 5,
        strength: float = 1e-3,
        fisher: Literal["consolidated", "arrival"] = "consolidated",
        hops: int = 2,
        published: bool = False,
    ) -> None:
        super().__init__("pecpm", strength=strength, fisher=fisher, hops=hops, published=published)
        check_shares("pecpm", evolved=evolved, replay=replay, cap=cap, capped=capped)
        if capped > cap:
            raise InputError(f"strategy 'pecpm': capped is {capped}, expected at most cap, which is {cap}")
        check_least("pecpm", 1, keep=keep)
        self.evolved = evolved
        self.replay = replay
        self.cap = cap
        self.capped = capped
        self.keep = keep
        self.bank = PatternBank()

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        assert isinstance(period, Arrival)
        forecaster = super().prepare(forecaster, period, nodes)
        _tell(forecaster, None)
        profiles = daily_profiles(period.network.train, steps_per_day=period.steps_per_day)
        new = newcomers(nodes)
        if period.index == 0:
            self.choose_all()
            changed = new
        else:
            ranked = _by_evolution(period, profiles)
            changed = torch.cat([new, ranked[: self._count(self.evolved, nodes)]])
            chosen = torch.cat([changed, self._replayed(ranked, period, nodes)]).unique()
            chosen = self._capped(with_targets(chosen, period.network.train), period, nodes)
            self.choose(chosen, forecaster, period)
        self._teach(forecaster, profiles, changed, period)
        return forecaster

    def consolidate(self, forecaster: Forecaster, period: Period) -> None:
        _tell(forecaster, None)  # the labels are no part of the Fisher information, which is that of the forecast
        super().consolidate(forecaster, period)

    def state(self) -> dict[str, Tensor]:
        return super().state() | self.bank.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        super().load_state(state)
        self.bank.load_state(state)

    def _replayed(self, ranked: Tensor, period: Arrival, nodes: NodeSet) -> Tensor:
        """Rows of the most stable old sensors and of random ones.

        Args:
            ranked: old sensors, most evolved first.
        """
        count, old = self._count(self.replay, nodes), with_targets(rows_of(nodes, nodes.retained), period.network.train)
        stable = self._whole(STABLE * count)
        if self.published and len(old):
            places = torch.randint(len(old), (count - stable,), generator=period.generator)
        else:
            places = torch.randperm(len(old), generator=period.generator)[: count - stable]
        return torch.cat([ranked.flip(0)[:stable], old[places]])

    def _capped(self, chosen: Tensor, period: Arrival, nodes: NodeSet) -> Tensor:
        if len(chosen) <= self._count(self.cap, nodes):
            return chosen
        order = torch.randperm(len(chosen), generator=period.generator)
        return chosen[order[: self._count(self.capped, nodes)]]

    def _count(self, share: float, nodes: NodeSet) -> int:
        return self._whole(share * len(nodes))

    def _whole(self, count: float) -> int:
        count = round(count, 9)  # 0.1 * 30 is a little more than 3
        return int(count) if self.published else math.ceil(count)

    def _teach(self, forecaster: Forecaster, profiles: Profiles, changed: Tensor, period: Arrival) -> None:
        """Bring the bank up to date, and tell a model that can be told what the trained nodes should attend to."""
        memory = getattr(forecaster, "memory", None)
        if not (hasattr(forecaster, "attention_labels") and isinstance(memory, PatternMemory)):
            return
        if len(self.bank):
            self.bank.take_in(profiles.rows(changed), len(memory))
        else:
            self.bank.build(profiles, len(memory), period.generator)
        values, known = self.bank.labels(profiles, len(memory), keep=self.keep)
        device, rows = memory.patterns.device, self.selection.rows
        rows = torch.arange(len(known)) if rows is None else rows.cpu()
        _tell(forecaster, AttentionLabels(values[rows].to(device), known[rows].to(device)))


def _by_evolution(period: Arrival, now: Profiles) -> Tensor:
    """Rows of the retained sensors that were measured in both periods, most evolved first; none without an earlier."""
    nodes, earlier = period.network.nodes, period.previous
    if earlier is None:
        return rows_of(nodes, ())
    was, rows = kept(earlier.nodes, nodes)
    before = daily_profiles(earlier.train, steps_per_day=period.steps_per_day).rows(was)
    moved = distances(before, now.rows(rows))
    known = ~moved.isnan()
    return rows[known][moved[known].argsort(descending=True, stable=True)]


def _tell(forecaster: Forecaster, labels: AttentionLabels | None) -> None:
    if hasattr(forecaster, "attention_labels"):
        forecaster.attention_labels = labels  # type: ignore[assignment]
