"""TrafficStream (IJCAI 2021): new sensors, drifted sensors and a few old ones, with elastic weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival, Network
from st_pipeline.strategies.parts.chosen_sensors import ChosenSensors
from st_pipeline.strategies.parts.neighbourhood import with_targets
from st_pipeline.strategies.parts.node_drift import drift_scores, feature_blocks, latest_readings, reading_scores
from st_pipeline.strategies.parts.options import check_shares
from st_pipeline.strategies.parts.sensors import kept, measured, newcomers, rows_of
from st_pipeline.types import NodeSet, Period

FLOOR = 1e-4  # share of an empty bin, which keeps the divergence of readings finite


@STRATEGIES.register
class TrafficStream(ChosenSensors):
    """Later periods train on the neighbourhood of new, drifted and replayed sensors; weights are held near the last.

    Replay means old sensors with their readings of this period; no reading of an earlier one is kept. Paper and
    public code differ (continual-methods, section 4.1); each reading is an option.

    Args:
        detect: share of the sensors that is trained on for having drifted most.
        replay: share that is trained on against forgetting.
        replay_by: those that drifted least, or any at `random`; random too where there is nothing to compare with.
        detect_by: how drift is seen: in the features of the old model, or in the readings.
        cap: share of the sensors that is chosen at most; beyond it chance decides, of new sensors too.
        smoothing: `ewc`, elastic weights; `l2`, each weight alike; `none`.
        strength: as in `ChosenSensors`, like `fisher` and `hops`.
        published: the neighbourhood, the unstandardised features, the NaN, the infinite divergence of readings and
            the drawing with replacement of the public code.

    Raises:
        InputError: a share is outside 0..1, or hops or strength are negative.
    """

    def __init__(
        self,
        *,
        hops: int = 2,
        detect: float = 0.05,
        replay: float = 0.05,
        replay_by: Literal["stable", "random"] = "stable",
        detect_by: Literal["features", "readings"] = "features",
        cap: float = 1.0,
        strength: float = 1e-4,
        smoothing: Literal["ewc", "l2", "none"] = "ewc",
        fisher: Literal["consolidated", "arrival"] = "consolidated",
        published: bool = False,
    ) -> None:
        super().__init__("traffic_stream", strength=strength, fisher=fisher, hops=hops, published=published)
        check_shares("traffic_stream", detect=detect, replay=replay, cap=cap)
        self.detect = detect
        self.replay = replay
        self.replay_by = replay_by
        self.detect_by = detect_by
        self.cap = cap
        self.smoothing = smoothing

    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        if period.index == 0:
            self.choose_all()
            return super().prepare(forecaster, period, nodes)
        assert isinstance(period, Arrival)
        earlier = period.previous if self._compares else None
        old = self._view(forecaster, earlier, period) if earlier else None
        forecaster = super().prepare(forecaster, period, nodes)
        ranked = None
        if earlier and old:
            ranked = self._rank(earlier, old, period, self._view(forecaster, period.network, period))
        self.choose(self._rows(ranked, period, nodes), forecaster, period)
        return forecaster

    def anchor(self, forecaster: Forecaster, period: Arrival) -> None:
        if self.smoothing == "ewc":
            super().anchor(forecaster, period)
        elif self.smoothing == "l2":
            trainable = [part for part in forecaster.parameters() if part.requires_grad]
            self.weights.anchor(forecaster, [[torch.ones_like(part) for part in trainable]])

    @property
    def _compares(self) -> bool:
        return self.detect > 0 or (self.replay > 0 and self.replay_by == "stable")

    def _view(self, forecaster: Forecaster, network: Network, period: Arrival) -> tuple[Tensor, ...]:
        """What drift is seen in: tensors with the network's nodes on axis 1."""
        if self.detect_by == "readings":
            return latest_readings(network, steps_per_day=period.steps_per_day)
        return (feature_blocks(forecaster, network, steps_per_day=period.steps_per_day, raw=self.published),)

    def _rank(self, earlier: Network, old: tuple[Tensor, ...], period: Arrival, new: tuple[Tensor, ...]) -> Tensor:
        """Rows of the retained sensors that were measured in both periods' last days, least drifted first."""
        was, now = kept(earlier.nodes, period.network.nodes)
        before, after = tuple(part[:, was] for part in old), tuple(part[:, now] for part in new)
        if self.detect_by == "readings":
            scores = reading_scores(*before, *after, floor=0.0 if self.published else FLOOR)
        else:
            scores = drift_scores(*before, *after, nan_is_most=self.published)
        heard = measured(earlier, period)[was] & measured(period.network, period)[now]
        return now[heard][scores.cpu()[heard].argsort(stable=True)]

    def _rows(self, ranked: Tensor | None, period: Arrival, nodes: NodeSet) -> Tensor:
        """Rows to train on.

        Args:
            ranked: old sensors, least drifted first; None where there is nothing to compare with.
        """
        total, replayed = len(nodes), int(self.replay * len(nodes))
        chosen = [newcomers(nodes)]
        if ranked is not None:
            chosen.append(ranked.flip(0)[: int(self.detect * total)])
        if ranked is not None and self.replay_by == "stable":
            chosen.append(ranked[:replayed])
        elif self.published:
            chosen.append(torch.randint(total, (replayed,), generator=period.generator))
        else:
            old = rows_of(nodes, nodes.retained)
            chosen.append(old[torch.randperm(len(old), generator=period.generator)[:replayed]])
        rows, most = with_targets(torch.cat(chosen).unique(), period.network.train), int(self.cap * total)
        return rows if len(rows) <= most else rows[torch.randperm(len(rows), generator=period.generator)[:most]]
