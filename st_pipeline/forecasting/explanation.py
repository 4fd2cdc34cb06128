"""One forecast of one sensor, and everything it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import torch
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import SOUND, Part, PeriodArrays
from st_pipeline.data.quality import FLAGS
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.errors import InputError, closest
from st_pipeline.evaluation.naive import NaiveForecasts
from st_pipeline.evaluation.scoring import require_same_sensors
from st_pipeline.fields import as_text
from st_pipeline.forecasting.provenance import landed_rows
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.forecasts import evaluating
from st_pipeline.training.learner import Learner
from st_pipeline.training.trained import BACKBONE
from st_pipeline.types import Graph, Window

OUTSIDE = "before the period"  # flag of a seasonal value that the period does not have
TOGETHER = 64  # sensors whose readings are taken away at a time
NEAREST = 3  # sensors by their prompts
WEEKLY = "naive_weekly"


@dataclass(frozen=True)
class Explanation:
    """A forecast and where it comes from.

    Attributes:
        issued_at: the end of the last step that was read.
        part: of the period that the forecast's first step lies in: `train`, `validation` or `test`.
        forecast: a row a step: `step`, `time`, `forecast`, `naive_weekly`, `truth`, in the unit of the readings.
        inputs: a row a cell that was read: `variable`, `lag` (as `7d`; null in the window), `time`, `value`, `flag`,
            `rows` (`file:row`, comma separated). A cell whose flag is not `observed` was not shown to a model of
            protocol `sound`, which reads a filled one.
        sensors: a row a sensor: `sensor_id`, `weight` of its edge (null without one), and `moves`: by how much the
            forecast changes, on average over its steps, if the model does not see that sensor's readings.
        prompt: what is known of the sensor's node prompt; None where the model has none.
        facts: of the model.
    """

    stream: str
    model: str
    sensor: str
    period: str
    part: str
    issued_at: datetime
    forecast: pl.DataFrame
    inputs: pl.DataFrame
    sensors: pl.DataFrame
    prompt: dict[str, Any] | None
    facts: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        frames = {name: getattr(self, name).to_dicts() for name in ("forecast", "inputs", "sensors")}
        return {**vars(self), **frames}


def explain(
    config: StreamConfig,
    model: ModelConfig,
    data: PeriodData,
    parts: Mapping[str, Checkpoint],
    sensor: str,
    *,
    raw: pl.DataFrame,
    before: Mapping[str, Checkpoint] | None = None,
    at: datetime | None = None,
) -> Explanation:
    """A forecast in a period by the model that has learned it, on the CPU.

    Args:
        data: of the period.
        parts: of the model's first seed after the period.
        raw: raw readings of the period.
        before: the parts after the period before.
        at: a time with a zone; the forecast is that issued then, or at the last step before. The last one that has
            its truth in the period if left out.

    Raises:
        InputError: the network has no such sensor, the model was trained on other sensors, or there is no forecast
            issued at that time.
    """
    if sensor not in data.nodes.ids:
        known = closest(sensor, data.nodes.ids)
        raise InputError(f"{config.name} has no sensor {sensor!r} in period {data.period.key}; {known}")
    row = data.nodes.ids.index(sensor)
    learner = Learner(config, model, model.runs[0])
    require_same_sensors(learner, parts, data)
    trained = learner.restore(parts)
    forecaster, graph = trained.forecaster, data.graph
    arrays = learner.arrays(data)
    issued = issue_step(data.tensor, config, at)
    start = torch.tensor([issued - config.window + 1])
    whole = arrays.whole(trained.scaler)
    return Explanation(
        stream=config.name,
        model=model.name,
        sensor=sensor,
        period=data.period.key,
        part=next(name for name in ("train", "validation", "test") if issued + 1 in getattr(arrays.cuts, name)),
        issued_at=_instant(int(data.tensor.times[issued]) + _seconds(config)),
        forecast=_forecast(forecaster, whole, graph, start, row, data=data, config=config),
        inputs=_inputs(data, config, learner.lags, issued, row, landed_rows(raw, sensor, config, data.period)),
        sensors=_sensors(forecaster, whole, graph, start, row, data.nodes.ids),
        prompt=_prompt(parts, before, forecaster, sensor),
        facts=_facts(learner, parts[BACKBONE]),
    )


def issue_step(tensor: SeriesTensor, config: StreamConfig, at: datetime | None) -> int:
    """The last step that is read of a forecast issued at a time, or by default of the last with its truth.

    Raises:
        InputError: the window or the forecast would leave the period.
    """
    first, last = config.window - 1, len(tensor.times) - config.horizon - 1
    if at is None:
        return last
    ends = tensor.times + _seconds(config)
    found = int(np.searchsorted(ends, at.timestamp(), side="right")) - 1
    if not first <= found <= last:
        zone = ZoneInfo(config.timezone)
        low, high = (_instant(int(ends[step])).astimezone(zone).isoformat() for step in (first, last))
        raise InputError(
            f"{config.name}: no forecast with its truth is issued at {at.isoformat()} in period {tensor.period}; "
            f"expected a time from {low} to {high}"
        )
    return found


def _forecast(
    forecaster: Forecaster,
    whole: Part,
    graph: Graph,
    start: Tensor,
    row: int,
    *,
    data: PeriodData,
    config: StreamConfig,
) -> pl.DataFrame:
    """The sensor's forecast beside the weekly naive one and the truth."""
    future = whole.windows.future(start)
    sound = PeriodArrays.of(data.tensor, data.nodes, config, protocol=SOUND)
    with evaluating(forecaster):
        forecast = whole.restore(forecaster(whole.windows.inputs(start), graph))[0, :, row]
    naive = NaiveForecasts(sound, config.steps_per_day).forecast(WEEKLY, future[:, 0] - 1, future)[0, :, row]
    cells = zip(sound.truth[future[0], row].tolist(), sound.scored[future[0], row].tolist(), strict=True)
    truth = [value if known else None for value, known in cells]
    return pl.DataFrame(
        {
            "step": range(1, len(truth) + 1),
            "time": [_instant(second) for second in data.tensor.times[future[0].numpy()].tolist()],
            "forecast": forecast.tolist(),
            WEEKLY: naive.tolist(),
            "truth": pl.Series(truth, dtype=pl.Float64),
        }
    )


def _inputs(
    data: PeriodData, config: StreamConfig, lags: tuple[int, ...], issued: int, row: int, landed: pl.DataFrame
) -> pl.DataFrame:
    """The window's cells of all variables, then those of the target one lag before each step of the forecast."""
    tensor, seconds = data.tensor, _seconds(config)
    window = range(issued - config.window + 1, issued + 1)
    wanted: list[tuple[int, int | None, int]] = [
        (channel, None, step) for channel in range(len(tensor.variables)) for step in window
    ]
    wanted += [(0, lag, issued + ahead - lag) for lag in lags for ahead in range(1, config.horizon + 1)]
    found: dict[int, list[str]] = {}
    for step, file, line in landed.filter(pl.col("step").is_in({step for *_, step in wanted})).iter_rows():
        found.setdefault(step, []).append(f"{file}:{line}")
    names = list(FLAGS)
    rows = []
    for channel, lag, step in wanted:
        inside = step >= 0
        flag = names[int(tensor.flags[step, row, channel])] if inside else OUTSIDE
        landed_here = inside and bool(tensor.landed[step, row, channel])
        rows.append(
            {
                "variable": tensor.variables[channel],
                "lag": None if lag is None else as_text(lag * config.step),
                "time": _instant(int(tensor.times[0]) + step * seconds if not inside else int(tensor.times[step])),
                "value": float(tensor.values[step, row, channel]) if landed_here else None,
                "flag": flag,
                "rows": ", ".join(found.get(step, [])),
            }
        )
    schema = {"value": pl.Float64, "lag": pl.String, "flag": pl.String}
    return pl.DataFrame(rows, schema_overrides=schema)


def _sensors(
    forecaster: Forecaster, whole: Part, graph: Graph, start: Tensor, row: int, ids: tuple[str, ...]
) -> pl.DataFrame:
    """All sensors, those that move the forecast most first."""
    window = whole.windows.inputs(start)
    with evaluating(forecaster):
        plain = whole.restore(forecaster(window, graph))[0, :, row]
        moves = torch.cat(
            [
                (whole.restore(forecaster(_without(window, hidden), graph))[..., row] - plain).abs().mean(1)
                for hidden in torch.arange(len(ids)).split(TOGETHER)
            ]
        )
    own = graph.row == row
    weights = dict(zip(graph.column[own].tolist(), graph.weight[own].tolist(), strict=True))
    rows = {"sensor_id": ids, "weight": [weights.get(place) for place in range(len(ids))], "moves": moves.tolist()}
    frame = pl.DataFrame(rows, schema={"sensor_id": pl.String, "weight": pl.Float64, "moves": pl.Float64})
    return frame.sort("moves", descending=True, maintain_order=True)


def _without(window: Window, hidden: Tensor) -> Window:
    """One window (B = 1) as often as there are hidden sensors (K,), each time with one of them unread."""
    count = len(hidden)
    copies = Window(*(part.expand(count, *part.shape[1:]).clone() for part in window))
    place = torch.arange(count)
    copies.values[place, :, hidden] = 0.0
    copies.observed[place, :, hidden] = False
    return copies


def _prompt(
    parts: Mapping[str, Checkpoint], before: Mapping[str, Checkpoint] | None, forecaster: Forecaster, sensor: str
) -> dict[str, Any] | None:
    """The prompt's length, the sensors with the nearest prompts, and whether the period has changed its row."""
    if "prompt_pool" not in parts:
        return None
    table = forecaster.parts()["prompt_pool"].table().detach().double()  # type: ignore[operator]
    ids = parts["prompt_pool"].facts["nodes"]
    row = ids.index(sensor)
    apart = (table - table[row]).norm(dim=1)
    nearest = [place for place in apart.argsort(stable=True).tolist() if place != row][:NEAREST]
    now, old = (_row_of(found.get("prompt_pool"), sensor) for found in (parts, before or {}))
    assert now is not None
    period = parts["prompt_pool"].facts["period"]
    told = f"first learned in {period}" if old is None else f"tuned in {period}"
    if old is not None and torch.equal(now, old):
        told = f"not tuned in {period}: as it was after {before['prompt_pool'].facts['period']}"  # type: ignore[index]
    return {
        "length": float(table[row].norm()),
        "mean_length": float(table.norm(dim=1).mean()),
        "nearest": {ids[place]: float(apart[place]) for place in nearest},
        "row": now.tolist(),
        "told": told,
    }


def _row_of(checkpoint: Checkpoint | None, sensor: str) -> Tensor | None:
    """The sensor's own row of a stored prompt pool; None where it has none."""
    if checkpoint is None or sensor not in checkpoint.facts["nodes"]:
        return None
    return checkpoint.under("weights")["nodes.rows"][checkpoint.facts["nodes"].index(sensor)]


def _facts(learner: Learner, backbone: Checkpoint) -> dict[str, Any]:
    facts, model = backbone.facts, learner.model
    kept = {name: facts[name] for name in ("period", "seed", "protocol", "configuration", "data", "parameters")}
    kept["trained_through"] = kept.pop("period")
    return {
        **kept,
        "backbone": model.backbone.name,
        "strategy": model.strategy.name,
        "parts": list(model.parts),
        "weights": backbone.digest,
    }


def _seconds(config: StreamConfig) -> int:
    return int(config.step.total_seconds())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
