"""What a model has learned, part by part: rows for the lake, and pictures drawn from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl
import torch

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.positions import Positions
from st_pipeline.data.windows import spaced
from st_pipeline.evaluation.scoring import latest_windows, prepared, require_same_sensors
from st_pipeline.model_config import ModelConfig
from st_pipeline.reporting.views import views
from st_pipeline.reporting.views.base import PAIR, SENSOR, Picture, View, of_kind
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.forecasts import evaluating
from st_pipeline.training.learner import Learner
from st_pipeline.types import NodeSet, Window

WINDOWS = 24  # evenly spaced over the last week of the test part, so that every time of the day is among them
INSIGHT = {
    **dict.fromkeys(["stream", "model", "protocol"], pl.String),
    "seed": pl.Int64,
    **dict.fromkeys(["period", "view", "kind", "sensor_id"], pl.String),
    "heard": pl.Float64,
}


def insight_rows(
    stream: StreamConfig, model: ModelConfig, parts: Mapping[str, BySeed], data: PeriodData, *, compute: Compute
) -> pl.DataFrame:
    """Rows of every view and seed of a model after a period.

    Columns `INSIGHT`, then those of the views, null in the rows of others. `heard` is the share of a sensor's target
    readings in the windows looked at that were measured.

    Args:
        parts: part -> seed -> checkpoint.

    Raises:
        InputError: the model was trained on other sensors, the test part is too short for a window, or the device is
            missing or too full.
    """
    frames = [pl.DataFrame(schema=INSIGHT)]
    for seed in model.runs:
        own = {part: checkpoints[seed] for part, checkpoints in parts.items()}
        names = {"stream": stream.name, "model": model.name, "protocol": model.protocol, "seed": seed}
        for view, rows in _looked_at(Learner(stream, model, seed), own, data, compute):
            facts = {**names, "period": data.period.key, "view": view}
            columns = [pl.lit(value, dtype=INSIGHT[name]).alias(name) for name, value in facts.items()]
            frames.append(rows.select(*columns, pl.all()))
    return pl.concat(frames, how="diagonal")


def insight_pictures(rows: pl.DataFrame, places: Positions) -> dict[str, Picture]:
    """Name -> picture, of the first seed.

    Args:
        rows: of `insight_rows`.
        places: of the period's sensors, in the order of the node set.
    """
    found: dict[str, Picture] = {}
    for (name,), own in rows.filter(pl.col("seed") == pl.col("seed").first()).group_by("view", maintain_order=True):
        view: View = views.build(str(name))
        found |= view.pictures(_filled(own), places)
    return found


def insight_means(rows: pl.DataFrame) -> dict[str, float]:
    """Means over sensors and seeds of every number that a sensor has; they plot over periods."""
    numbers = of_kind(rows, SENSOR).select(pl.selectors.float()).mean()
    return {f"mean_{name}": value for name, value in numbers.row(0, named=True).items() if value is not None}


def insight_table(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows for people: without the pairs, without columns that are empty then, lists rounded."""
    shown = _filled(rows.filter(pl.col("kind") != PAIR))
    return shown.with_columns(pl.selectors.list().list.eval(pl.element().round(2)))


def _looked_at(
    learner: Learner, parts: Mapping[str, Checkpoint], data: PeriodData, compute: Compute
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows of each view of one trained model; windows are looked at one by one, whatever memory there is."""
    require_same_sensors(learner, parts, data)
    with learner.planned(data, compute, f"{learner.stream.name}/{learner.model.name} insight") as (usage, _):
        trained = learner.restore(parts)
        trained.scaler = trained.scaler.to(usage.device)
        part, graph, forecaster = prepared(learner, trained, data, usage.device)
        starts = spaced(latest_windows(part, learner.stream).starts, WINDOWS)
        windows = [part.windows.inputs(start) for start in starts.split(1)]
        heard = _heard(windows, data.nodes)
        for name in learner.model.views:
            view: View = views.build(name)
            with evaluating(forecaster):
                rows = view.rows(forecaster, windows, graph, data.nodes)
            yield name, rows.join(heard, on=["kind", "sensor_id"], how="left", maintain_order="left")


def _heard(windows: list[Window], nodes: NodeSet) -> pl.DataFrame:
    """kind, sensor_id, heard: the share of target readings that were measured."""
    shares = torch.cat([window.observed[..., 0] for window in windows]).double().mean((0, 1))
    return pl.DataFrame({"kind": [SENSOR] * len(nodes), "sensor_id": nodes.ids, "heard": shares.tolist()})


def _filled(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without columns that hold nothing."""
    return rows.select(name for name in rows.columns if rows[name].null_count() < len(rows))
