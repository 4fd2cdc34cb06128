"""Forecasts of a statistical baseline over one period's test windows, and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import ENOUGH_DAYS, SOUND, PeriodArrays
from st_pipeline.evaluation.baselines import baselines
from st_pipeline.evaluation.baselines.base import Baseline, Panel
from st_pipeline.evaluation.issue_times import issue_times
from st_pipeline.evaluation.scoring import Evaluation, evaluate_forecasts
from st_pipeline.model_config import BaselineConfig, ScalingConfig

BELIEVABLE = 1e3  # deviations from a sensor's average; what a forecast beyond them says is that it has exploded


class BaselineForecasts:
    """A baseline fitted on the training part of a period, with the sensors it cannot forecast as their average.

    A sensor that is hardly measured in the training part, or hardly varies there, has no part in the fit: its
    forecast is its average of that part, the network's where it has too few readings for one.
    """

    def __init__(self, arrays: PeriodArrays, spec: Mapping[str, Any]) -> None:
        self.arrays = arrays
        self.scaler = arrays.fit_scaler(ScalingConfig())
        ids = arrays.nodes.ids
        self.rows = [row for row, name in enumerate(ids) if name not in self.scaler.unsure]
        observed = arrays.usable[..., 0] & arrays.scored
        standard = self.scaler.standardise(arrays.values.double())[..., 0]
        values = torch.where(observed, standard, torch.nan)[:, self.rows].numpy()
        panel = Panel(values, train=len(arrays.cuts.train), horizon=arrays.horizon, day=arrays.steps_per_day)
        self.baseline: Baseline | None = baselines.build(spec, panel=panel) if self.rows else None
        self.notes = {name: self._why_unsure(observed[:, ids.index(name)]) for name in self.scaler.unsure}
        fitted = self.baseline.notes if self.baseline else {}
        self.notes |= {ids[self.rows[column]]: note for column, note in fitted.items()}

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Forecast, truth and scored cells (B, H, N) of the test windows."""
        for issued, future in issue_times(self.arrays):
            yield self._forecast(issued), self.arrays.truth[future], self.arrays.scored[future]

    def diagnostics(self) -> dict[str, Any]:
        """Facts of the fit, and the sensors of which there is something to say; complete once all batches are made."""
        facts = self.baseline.facts if self.baseline else {}
        notes = [{"sensor_id": name, "forecast": note} for name, note in sorted(self.notes.items())]
        return {**facts, "sensors_in_fit": len(self.rows), "notes": notes}

    def _forecast(self, issued: Tensor) -> Tensor:
        """(B, H, N) in the unit of the readings."""
        found = np.zeros((len(issued), self.arrays.horizon, len(self.scaler.ids)))
        if self.baseline:
            made = self.baseline.forecasts(issued.numpy())
            good = np.abs(made) < BELIEVABLE  # what is no number is not good either
            for column in np.flatnonzero(~good.all(axis=(0, 1))):
                name = self.scaler.ids[self.rows[column]]
                self.notes[name] = f"its average at some steps: forecasts over {BELIEVABLE:g} deviations, or no numbers"
            found[..., self.rows] = np.where(good, made, 0.0)
        return self.scaler.restore(torch.from_numpy(found)).float()

    def _why_unsure(self, observed: Tensor) -> str:
        """Of a sensor that has no part in the fit, from where it was observed (L,)."""
        cells, least = int(observed[: len(self.arrays.cuts.train)].sum()), ENOUGH_DAYS * self.arrays.steps_per_day
        if cells < least:
            return f"the network's average: {cells} observed training cells, statistics need {least}"
        return f"its average: {cells} observed training cells hardly vary"


def evaluate_baseline(stream: StreamConfig, baseline: BaselineConfig, data: PeriodData) -> Evaluation:
    """Score a baseline on the test part of one period, protocol `sound`; the diagnostics say what was not fitted."""
    arrays = PeriodArrays.of(data.tensor, data.nodes, stream, protocol=SOUND)
    made = BaselineForecasts(arrays, baseline.spec())
    found = evaluate_forecasts(stream, data, arrays, {baseline.name: made.batches()})
    facts = {"period": data.period.key, "baseline": baseline.name, **made.diagnostics()}
    return replace(found, diagnostics=facts)
