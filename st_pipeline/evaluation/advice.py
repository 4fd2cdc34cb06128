"""What is known of a period before anything is trained on it, and what it advises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.drift import NOTABLE, drift_table
from st_pipeline.data.graph_change import graph_change
from st_pipeline.data.profiles import profile_shift
from st_pipeline.data.splits import split
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.actions import Outcomes, mean_gain
from st_pipeline.evaluation.advice_rule import DEFAULT, Signals, Thresholds, decide
from st_pipeline.evaluation.probe import Probe, probe
from st_pipeline.model_config import ModelConfig
from st_pipeline.training.checkpoint import BySeed
from st_pipeline.training.compute import Compute
from st_pipeline.training.updates import Network, period_data
from st_pipeline.types import NodeSet

CHANGES = ("added", "returned", "retired", "silent", "moved")
Document = dict[str, Any]


@dataclass(frozen=True)
class Arrival:
    """A period that has landed, and what was left by those before it.

    Attributes:
        network: of this period and the one before: `tensor`, `adjacency`, `node_set` by period key.
        parts: part -> seed -> checkpoint after the period before; empty if it is not there.
        outcomes: of any periods; those of this and later ones are not looked at.
        probes: of earlier periods, the frozen model's error in shares of the weekly naive forecast's.
    """

    config: StreamConfig
    model: ModelConfig
    period: str
    network: Network
    parts: Mapping[str, BySeed]
    outcomes: Outcomes
    probes: Mapping[str, float]

    @property
    def before(self) -> str | None:
        """Key of the period before."""
        index = self.config.calendar.find(self.period).index
        return self.config.calendar.period(index - 1).key if index else None


def advise(arrival: Arrival, *, compute: Compute, limits: Thresholds = DEFAULT) -> Document:
    """The advice for a period as JSON can hold it, from what is known when its training part and validation part are.

    Raises:
        InputError: the period is too short, or the checkpoints do not fit the model.
    """
    known, before = arrival.outcomes.before(arrival.period), arrival.before
    nodes: NodeSet = arrival.network["node_set"][arrival.period]
    sensors = sensor_table(arrival.config, arrival.network["tensor"], arrival.period, before)
    found = None
    if before and arrival.parts:
        data = period_data(arrival.config, arrival.period, arrival.network)
        found = probe(arrival.config, arrival.model, arrival.parts, data, compute=compute)
    forecast = _forecast(found, before, known, arrival.probes)
    graphs = arrival.network["adjacency"]
    gains = known.retrain_gains
    signals = _signals(nodes, sensors, error=forecast["change"], gains=gains, first=before is None)
    action, reasons = decide(signals, limits)
    return {
        "stream": arrival.config.name,
        "period": arrival.period,
        "before": before,
        "model": arrival.model.name,
        "action": action,
        "reasons": [reason._asdict() for reason in reasons],
        "missing": [] if before is None else _missing(arrival, forecast, gains),
        "signals": asdict(signals),
        "limits": asdict(limits),
        "changes": {name: list(getattr(nodes, name)) if before else [] for name in CHANGES},
        "graph": graph_change(graphs[arrival.period], graphs[before] if before else None),
        "forecast": forecast,
        "costs": {name: {"seconds": s, "from": text} for name, (s, text) in known.predicted_seconds().items()},
        "probes": {**arrival.probes, **({arrival.period: forecast["ratio"]} if found else {})},
        "sensors": sensors.to_dicts(),
    }


def _signals(
    nodes: NodeSet, sensors: pl.DataFrame, *, error: float | None, gains: Mapping[str, float], first: bool
) -> Signals:
    return Signals(
        nodes=len(nodes),
        new=0 if first else len(nodes.added) + len(nodes.returned),
        compared=sensors["psi"].count(),
        shifted=int((sensors["psi"] > NOTABLE).sum()),
        profile=_median(sensors["shift"]),
        error=error,
        gain=mean_gain(gains),
        gains=len(gains),
        first=first,
    )


def sensor_table(
    config: StreamConfig, tensors: Mapping[str, SeriesTensor], period: str, before: str | None
) -> pl.DataFrame:
    """One row per sensor: columns of `drift_table` and `shift` of the profile, most shifted first.

    The test part of the period is not looked at; the period before is, whole.
    """
    current, previous = known_part(tensors[period], config), tensors[before] if before else None
    drift, shift = drift_table(current, previous), profile_shift(current, previous, config.step)
    return drift.join(shift, on="sensor_id", how="left").sort(
        "psi", "sensor_id", descending=[True, False], nulls_last=True
    )


def known_part(tensor: SeriesTensor, config: StreamConfig) -> SeriesTensor:
    """A period without its test part."""
    end = split(len(tensor.times), config.split).validation.stop
    return replace(tensor, values=tensor.values[:end], flags=tensor.flags[:end], times=tensor.times[:end])


def _forecast(found: Probe | None, before: str | None, known: Outcomes, probes: Mapping[str, float]) -> dict[str, Any]:
    """What the frozen model's error on the validation part lets expect, and how far that was off earlier.

    `change` is in percent of `usual`; `misses` are percentages by which earlier test parts were above the forecast.
    """
    usual = known.usual(before) if before else None
    ratio = found.ratio if found else None
    came = {key: known.arrived(key) for key in probes}
    misses = {key: 100 * (value / probes[key] - 1) for key, value in came.items() if value is not None and probes[key]}
    return {
        "error": found.error if found else None,
        "naive": found.naive if found else None,
        "ratio": ratio,
        "usual": usual,
        "change": 100 * (ratio / usual - 1) if ratio is not None and usual else None,
        "misses": misses,
    }


def _missing(arrival: Arrival, forecast: Mapping[str, Any], gains: Mapping[str, float]) -> list[str]:
    """What is not known, as sentences."""
    name, before = f"{arrival.config.name}/{arrival.model.name}", arrival.before
    found = []
    if forecast["ratio"] is None:
        found.append(f"{name} has no checkpoint of {before}, or nothing to score: its error is not known.")
    elif forecast["usual"] is None:
        found.append(
            f"{name} or the weekly naive forecast has no comparable score of {before}, "
            "so it is not known whether the frozen model lost ground."
        )
    if not gains:
        found.append("No earlier period shows what training anew would have brought; that signal is left out.")
    return found


def _median(column: pl.Series) -> float | None:
    value = column.median()
    return float(value) if isinstance(value, int | float) else None
