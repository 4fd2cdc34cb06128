"""The two protocols: every convention by its name, and what it does to one period's arrays.

`sound`: statistics of the training part alone, masks from the data. `paper`: the conventions of EAC's public code
(continual-methods, sections 0 and 3), reproduced: statistics of each part's own windows, raw targets, missing as
zero and zero as missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.clock import calendar_features
from st_pipeline.data.scaling import Scaler
from st_pipeline.data.splits import Split, require_windows, split, window_starts
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.data.windows import Windows, of_nodes
from st_pipeline.errors import InputError
from st_pipeline.model_config import ScalingConfig
from st_pipeline.types import NodeSet

PartName = Literal["train", "validation", "test"]
ENOUGH_DAYS = 2  # a sensor measured for less of the training part has no statistics of its own


@dataclass(frozen=True)
class Protocol:
    """Named conventions.

    Attributes:
        statistics: the windows a split is standardised by: those of the training part, or its own.
        missing: a cell without a usable value is masked, or read as zero.
        raw_target: the forecast is in the unit of the readings, with no inverse transform.
        drop_last_window: leave out the last window of each part.
        batch_mean: validation error is the mean over batches, each batch weighing the same.
        masked_loss: unobserved targets do not count in the loss.
        epochs, batch, learning_rate, weight_decay, patience, loss, decay: training settings.
    """

    name: str
    statistics: Literal["train", "own"]
    missing: Literal["mask", "zero"]
    raw_target: bool
    drop_last_window: bool
    batch_mean: bool
    masked_loss: bool
    loss: Literal["mae", "mse"]
    epochs: int = 100
    batch: int = 128
    learning_rate: float = 0.03
    weight_decay: float = 0.01
    patience: int = 5
    decay: Literal["none", "cosine"] = "none"


SOUND = Protocol(
    name="sound",
    statistics="train",
    missing="mask",
    raw_target=False,
    drop_last_window=False,
    batch_mean=False,
    masked_loss=True,
    loss="mae",
)
PAPER = Protocol(
    name="paper",
    statistics="own",
    missing="zero",
    raw_target=True,
    drop_last_window=True,
    batch_mean=True,
    masked_loss=False,
    loss="mse",
)
PROTOCOLS = {protocol.name: protocol for protocol in (SOUND, PAPER)}


@dataclass(frozen=True)
class Part:
    """One part of a period, ready to be cut into windows: what a model reads, and the truth it is scored on.

    The arrays hold the part's own steps and, where lags look further back, those before. truth (L, N) and scored
    (L, N) are in the unit of the readings, whatever the protocol.
    """

    windows: Windows
    starts: Tensor  # (S,) first steps of the part's windows, counted from `offset`
    truth: Tensor
    scored: Tensor
    scaler: Scaler
    raw_target: bool
    offset: int = 0  # first step of the arrays in the period

    def of_nodes(self, rows: Tensor) -> Part:
        """The same part of some nodes (M,), in their order; standardised as it was."""
        truth, scored = of_nodes(self.truth, rows), of_nodes(self.scored, rows)
        windows, scaler = self.windows.of_nodes(rows), self.scaler.of_rows(rows)
        return replace(self, windows=windows, truth=truth, scored=scored, scaler=scaler)

    def to(self, device: torch.device | str) -> Part:
        arrays = {name: getattr(self, name).to(device) for name in ("windows", "starts", "truth", "scored", "scaler")}
        return replace(self, **arrays)

    def restore(self, forecast: Tensor) -> Tensor:
        """Model units (..., N) -> the unit of the readings."""
        return forecast if self.raw_target else self.scaler.restore(forecast)


@dataclass(frozen=True)
class PeriodArrays:
    """One period as a protocol sees it: cells, node set, cuts; parts are made on demand."""

    protocol: Protocol
    nodes: NodeSet
    period: str
    values: Tensor  # (L, N, C), 0 where not usable
    usable: Tensor  # (L, N, C) bool
    truth: Tensor  # (L, N)
    scored: Tensor  # (L, N) bool
    time_of_day: Tensor
    day_of_week: Tensor
    cuts: Split
    window: int
    horizon: int
    lags: tuple[int, ...]
    steps_per_day: int

    @classmethod
    def of(
        cls,
        tensor: SeriesTensor,
        nodes: NodeSet,
        config: StreamConfig,
        *,
        protocol: Protocol,
        lags: tuple[int, ...] = (),
        share: float | None = None,
        device: torch.device | str = "cpu",
    ) -> PeriodArrays:
        """The arrays of a period on the device.

        Args:
            share: of the period, whose first steps alone are the training part.
        """
        landed = torch.from_numpy(tensor.landed)
        observed = torch.from_numpy(tensor.observed)
        values = torch.from_numpy(tensor.values)
        mask = protocol.missing == "mask"
        everywhere = torch.ones((), dtype=torch.bool).expand(observed.shape)  # takes no memory
        cells = observed if mask else everywhere
        slot, day = (torch.from_numpy(part) for part in calendar_features(tensor.times, tensor.timezone, config.step))
        return cls(
            protocol=protocol,
            nodes=nodes,
            period=tensor.period,
            values=torch.where(observed if mask else landed, values, 0.0).to(device),
            usable=cells.to(device),
            truth=values[..., 0].to(device),
            scored=(observed if mask else landed)[..., 0].to(device),
            time_of_day=slot.to(device),
            day_of_week=day.to(device),
            cuts=split(len(values), config.split, used=share),
            window=config.window,
            horizon=config.horizon,
            lags=lags,
            steps_per_day=config.steps_per_day,
        )

    def starts(self, part: range) -> range:
        return window_starts(part, self.window + self.horizon, drop_last=self.protocol.drop_last_window)

    def fit_scaler(self, scaling: ScalingConfig) -> Scaler:
        """Statistics that protocol `sound` uses for all parts: those of the training part."""
        train = slice(self.cuts.train.start, self.cuts.train.stop)
        return Scaler.fit(
            self.values[train],
            self.usable[train],
            nodes=self.nodes,
            per=scaling.per,
            transform=scaling.transform,
            enough=ENOUGH_DAYS * self.steps_per_day,
        )

    def require_targets(self, name: PartName) -> None:
        """Fail if no target of a part was measured: there is nothing to learn from, or to choose by.

        Raises:
            InputError: naming the part.
        """
        steps: range = getattr(self.cuts, name)
        if not self.scored[steps.start + self.window : steps.stop].any():
            raise InputError(
                f"period {self.period}: no reading of the target is usable in its {name} part; "
                "mend the source, or choose other periods or another split"
            )

    def part(self, name: PartName, scaler: Scaler) -> Part:
        """One part in model units.

        Args:
            scaler: of the training part; protocol `paper` replaces it by the part's own.

        Raises:
            InputError: the part is too short for one window.
        """
        steps: range = getattr(self.cuts, name)
        starts = self.starts(steps)
        require_windows(starts, steps, name=name, period=self.period, span=self.window + self.horizon)
        return self._cut(steps, starts, self._scaler(starts, scaler))

    def whole(self, scaler: Scaler) -> Part:
        """The whole period in model units, as its test part is seen: windows of any parts, or across them.

        Args:
            scaler: of the training part; protocol `paper` replaces it by that of the test part.
        """
        steps = range(len(self.values))
        starts = window_starts(steps, self.window + self.horizon)
        return self._cut(steps, starts, self._scaler(self.starts(self.cuts.test), scaler))

    def scaled(self, scaler: Scaler) -> Part:
        """All steps in model units by statistics that are used as they are, whatever the protocol; no windows yet."""
        return self._cut(range(len(self.values)), range(0), scaler.for_nodes(self.nodes).to(self.values.device))

    def _scaler(self, starts: range, scaler: Scaler) -> Scaler:
        if self.protocol.statistics == "own":
            return self._own_scaler(starts)
        return scaler.for_nodes(self.nodes).to(self.values.device)

    def _cut(self, steps: range, starts: range, used: Scaler) -> Part:
        first = max(0, steps.start - max(self.lags, default=0))
        here = slice(first, steps.stop)
        values, usable = self.values[here], self.usable[here]
        standardised = torch.where(usable, used.standardise(values), 0.0)
        windows = Windows(
            values=standardised,
            observed=usable,
            target=values[..., 0] if self.protocol.raw_target else standardised[..., 0],
            target_observed=usable[..., 0],
            time_of_day=self.time_of_day[here],
            day_of_week=self.day_of_week[here],
            window=self.window,
            horizon=self.horizon,
            lags=self.lags,
        )
        own = torch.arange(starts.start - first, starts.stop - first, device=self.values.device)
        raw = self.protocol.raw_target
        return Part(windows, own, self.truth[here], self.scored[here], used, raw, first)

    def _own_scaler(self, starts: range) -> Scaler:
        """One mean and deviation over the inputs of all windows of a part: a step weighs as often as it is an input."""
        steps = torch.arange(starts.start, starts.stop + self.window - 1)
        weight = torch.minimum(
            torch.minimum(steps - starts.start + 1, starts.stop + self.window - 1 - steps),
            torch.tensor(min(self.window, len(starts))),
        ).to(self.values.device, torch.float64)
        inputs = self.values[starts.start : starts.stop + self.window - 1].double()
        total = weight.sum() * inputs.shape[1]
        mean = torch.einsum("l,lnc->c", weight, inputs) / total
        spread = (torch.einsum("l,lnc->c", weight, (inputs - mean) ** 2) / total).sqrt()
        shape = self.values.shape[1:]
        scale = torch.where(spread > 0, spread, torch.ones_like(spread))
        return Scaler("none", self.nodes.ids, mean.float().expand(shape), scale.float().expand(shape), {})
