"""A forecast from a file of readings by a stored model, through the stream's reader and cleaning; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from glob import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.data.cleaning import clean
from st_pipeline.data.clock import resolve, step_count, step_times
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import SOUND, Part, PeriodArrays
from st_pipeline.data.scaling import Scaler
from st_pipeline.data.tensors import SeriesTensor, build_tensor
from st_pipeline.data_config import YEARS
from st_pipeline.errors import InputError
from st_pipeline.evaluation.naive import NaiveForecasts
from st_pipeline.evaluation.scoring import require_same_sensors
from st_pipeline.forecasting.series import filled_like
from st_pipeline.model_config import ModelConfig
from st_pipeline.periods import Period
from st_pipeline.readers import readers
from st_pipeline.readers.base import SourceContext
from st_pipeline.readers.parts.csv_table import CsvOptions
from st_pipeline.readers.parts.tables import PARQUET, table_columns
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.forecasts import evaluating
from st_pipeline.training.learner import Learner
from st_pipeline.training.trained import BACKBONE

WEEKLY = "naive_weekly"
HISTORY = timedelta(days=35)  # of readings before the time of issue: what quality rules and naive forecasts look at


@dataclass(frozen=True)
class OneOff:
    """Forecasts of all sensors that a model knows.

    Attributes:
        rows: `sensor_id`, `issued_at`, `target_time`, `horizon`, `point`, `naive_weekly` in the unit of the readings,
            and `readings`: at how many steps of the window the sensor was observed.
        facts: of the model.
        unknown: sensors of the file that the model does not know.
    """

    rows: pl.DataFrame
    facts: dict[str, Any]
    unknown: tuple[str, ...]


def forecast_once(
    config: StreamConfig,
    model: ModelConfig,
    data: PeriodData,
    parts: Mapping[str, Checkpoint],
    readings: Path,
    at: datetime | None = None,
) -> OneOff:
    """The forecast that a model makes of a file of readings; rows from the time of issue on are not looked at.

    Args:
        data: of the period that the model is trained through, whose sensors and graph it keeps.
        parts: of one seed after that period.
        readings: CSV or Parquet, with the columns that the stream file names or with the pipeline's own names.
        at: a time with a zone, the end of a step; by default that of the last step with a reading.

    Raises:
        InputError: the file cannot be read, or has nothing to read before that time.
    """
    learner = Learner(config, model, parts[BACKBONE].facts["seed"])
    require_same_sensors(learner, parts, data)
    raw = read_file(config, readings)
    heard = set(raw["sensor_id"].drop_nulls().cast(pl.String).unique())
    if heard.isdisjoint(data.nodes.ids):
        raise InputError(
            f"{readings}: has no reading of a sensor that {config.name}/{model.name} knows, e.g. {data.nodes.ids[0]!r}"
        )
    recent = _recent(raw, config, at, max(learner.lags, default=0))
    tensor = _tensor(raw, config, data.nodes.ids, recent)
    last = len(tensor.times) - config.horizon - 1
    seen = tensor.observed[last + 1 - config.window : last + 1, :, 0].sum(0)
    if not seen.any():
        raise InputError(
            f"{readings}: no sensor that {config.name}/{model.name} knows has a usable reading in the {config.window} "
            f"steps before {recent.end.isoformat()}; give newer readings, or another --at"
        )
    trained = learner.restore(parts)
    whole = _arrays(learner, data, tensor, trained.scaler)
    start = torch.tensor([last + 1 - config.window])
    with evaluating(trained.forecaster):
        points = whole.restore(trained.forecaster(whole.windows.inputs(start), data.graph))[0]
    sound = PeriodArrays.of(tensor, data.nodes, config, protocol=SOUND)
    naive = NaiveForecasts(sound, config.steps_per_day).forecast(
        WEEKLY, start + config.window - 1, whole.windows.future(start)
    )[0]
    columns = {"point": points.numpy(), WEEKLY: naive.numpy(), "readings": np.tile(seen, (config.horizon, 1))}
    return OneOff(
        _table(config, data.nodes.ids, int(recent.end.timestamp()), columns),
        {"model": f"{config.name}/{model.name}", "trained_through": data.period.key, "weights": parts[BACKBONE].digest},
        tuple(sorted(heard - set(data.nodes.ids))),
    )


def read_file(config: StreamConfig, file: Path) -> pl.DataFrame:
    """All rows of a file as the stream's reader lands them.

    Raises:
        InputError: it is not there or cannot be read.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; expected CSV or Parquet with readings")
    kind = "parquet" if file.suffix.lower() in PARQUET else "csv"
    own = config.source.spec() if config.source.format == kind else {}
    options = {key: value for key, value in own.items() if key not in ("name", "readings", "sensors", "edges")}
    spec = {**options, "name": kind, "readings": escape(file.name)}
    folder = file.parent.resolve()
    context = SourceContext(_with_columns_of(file, config, options), folder, folder, folder)
    zone = ZoneInfo(config.timezone)
    ends = (datetime(YEARS[0], 1, 2, tzinfo=zone), datetime(YEARS[-1], 1, 1, tzinfo=zone))
    rows: pl.DataFrame = readers.build(spec, context=context).readings(Period("readings", 0, *ends))
    if rows.is_empty():
        raise InputError(f"{file}: has no rows; expected readings up to the time of issue")
    return rows


def _with_columns_of(file: Path, config: StreamConfig, options: Mapping[str, Any]) -> StreamConfig:
    """The stream as if its source had the file's columns: those of its file, or the pipeline's names, or `value`."""
    csv = CsvOptions(options.get("delimiter", ","), options.get("encoding", "utf-8"))
    found = table_columns(file, csv)
    columns = dict(config.source.columns)
    for ours in ("sensor_id", "timestamp", *config.source.variables):
        others = (ours, "value") if ours == config.variable_names[0] else (ours,)
        theirs = columns.get(ours, ours)
        if theirs not in found and (name := next((name for name in others if name in found), None)):
            columns[ours] = name
    return config.model_copy(update={"source": config.source.model_copy(update={"columns": columns})})


def _recent(raw: pl.DataFrame, config: StreamConfig, at: datetime | None, longest: int) -> Period:
    """What is read for a forecast: up to its issue, from a local midnight on, so that steps lie as in a period."""
    zone = ZoneInfo(config.timezone)
    named = raw.filter(pl.col("sensor_id").is_not_null()).with_columns(pl.col("sensor_id").cast(pl.Categorical))
    last = resolve(named, config)["timestamp"].max()
    newest = at or (last if isinstance(last, datetime) else datetime.now(UTC)) + config.step
    reach = max(HISTORY, (longest + config.window) * config.step)
    first = datetime.combine((newest - reach).astimezone(zone).date(), time(), zone)
    steps = (newest.astimezone(UTC) - first.astimezone(UTC)) // config.step
    return Period("readings", 0, first, (first.astimezone(UTC) + steps * config.step).astimezone(zone))


def _tensor(raw: pl.DataFrame, config: StreamConfig, ids: tuple[str, ...], recent: Period) -> SeriesTensor:
    """Cleaned readings on every step up to the issue, and on the steps that are forecast nothing.

    Raises:
        InputError: there is no reading.
    """
    found = build_tensor(clean(raw, config, recent), ids, config, recent.key)
    count = step_count(recent, config.step) + config.horizon
    times = step_times(recent, config.step, count).dt.epoch("s").to_numpy()
    return filled_like(found, ids, times, [found])


def _arrays(learner: Learner, data: PeriodData, tensor: SeriesTensor, scaler: Scaler) -> Part:
    """The readings in model units, standardised by what the model was: protocol `paper` takes no new statistics."""
    known = learner.arrays(data).whole(scaler).scaler
    arrays = learner.arrays(replace(data, tensor=tensor))
    return replace(arrays, protocol=replace(arrays.protocol, statistics="train")).whole(known)


def _table(
    config: StreamConfig, ids: tuple[str, ...], issued: int, columns: Mapping[str, NDArray[Any]]
) -> pl.DataFrame:
    """Rows of arrays (H, N), sensor by sensor."""
    steps = np.arange(config.horizon)
    targets = issued + steps * int(config.step.total_seconds())
    instant = pl.Datetime("ms", "UTC")
    return pl.DataFrame(
        {
            "sensor_id": np.repeat(ids, len(steps)),
            "issued_at": pl.Series([issued * 1000] * len(steps) * len(ids)).cast(instant),
            "target_time": pl.Series(np.tile(targets, len(ids)) * 1000).cast(instant),
            "horizon": np.tile(steps + 1, len(ids)),
            **{name: array.T.ravel() for name, array in columns.items()},
        }
    )
