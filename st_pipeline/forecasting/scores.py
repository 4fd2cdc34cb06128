"""Published forecasts against the truth that has arrived since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.forecast_means import INSIDE, MEANS
from st_pipeline.evaluation.interval_scores import pinball_losses
from st_pipeline.forecasting.conformal import LEVELS
from st_pipeline.forecasting.issue import QUANTILES, TIER
from st_pipeline.forecasting.points import past
from st_pipeline.forecasting.published import first
from st_pipeline.forecasting.series import Series, join
from st_pipeline.forecasting.walk import Truth
from st_pipeline.types import NodeSet, Period

FIRST_MONTH = timedelta(days=30)
KEYS = ("day", "horizon", "tier", "cohort")
SCHEMA = {
    "day": pl.Date(),
    "horizon": pl.Int16(),
    "tier": TIER,
    "cohort": pl.String(),
    "cells": pl.Int64(),
    "interval_cells": pl.Int64(),
    **dict.fromkeys(MEANS, pl.Float64()),
}


def score(
    config: StreamConfig,
    period: Period,
    forecasts: Mapping[str, pl.DataFrame],
    tensors: Mapping[str, SeriesTensor],
    nodes: NodeSet,
) -> pl.DataFrame:
    """Rows of `SCHEMA`: forecasts whose target lies in the period, by day, step, tier and cohort.

    Means of cells; those of intervals over the cells that have one. The naive forecast is that of a week ago issued
    at the same time, or the last value, on the same cells. Days are those of the stream's clock.

    Args:
        forecasts: published rows of this period and, as far as they are there, of the one before.
        tensors: of this period and those before.
        nodes: the period's node set.
    """
    series = join(config, tensors, period, since=_first_issue(forecasts))
    cells = [_cells(series, first(rows), tensors, nodes) for rows in forecasts.values() if len(rows)]
    rows = pl.concat(cells) if cells else pl.DataFrame(schema=SCHEMA)
    if rows.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    young = rows.filter("young").with_columns(cohort=pl.lit("first_month"))
    both = pl.concat([rows.with_columns(cohort=pl.lit("all")), young])
    counts = [pl.len().alias("cells"), pl.col("width_90").count().alias("interval_cells")]
    means = [pl.col(name).mean() for name in MEANS]
    return both.group_by(KEYS).agg(*counts, *means).select(*SCHEMA).cast(SCHEMA).sort(KEYS)  # type: ignore[arg-type]


def _first_issue(forecasts: Mapping[str, pl.DataFrame]) -> int | None:
    starts = [int(rows["issued_at"].dt.epoch("s").to_numpy().min()) for rows in forecasts.values() if len(rows)]
    return min(starts, default=None)


def _cells(series: Series, rows: pl.DataFrame, tensors: Mapping[str, SeriesTensor], nodes: NodeSet) -> pl.DataFrame:
    """What each forecast with a truth in the period was worth."""
    times = series.tensor.times
    at = np.searchsorted(times, rows["target_time"].dt.epoch("s").to_numpy())
    row = series.rows(rows["sensor_id"].to_list())
    truth = Truth.of(series)
    there = (at >= series.begin) & (at <= series.landed) & (row >= 0)
    there[there] = truth.scored[at[there], row[there]]
    there &= rows["point"].is_not_null().to_numpy()
    rows, at, row = rows.filter(pl.Series(there)), at[there], row[there]
    real = truth.truth[at, row].astype(np.float64)
    error = (pl.col("point").cast(pl.Float64) - pl.lit(pl.Series(real))).abs()
    values: dict[str, pl.Series | NDArray[Any]] = {
        "day": _days(times[at], series.config.timezone),
        "naive_weekly_mae": np.abs(_naive(series, rows, at, row) - real),
        "pinball": _pinball(rows, real),
        "young": _young(series, tensors, nodes)[at, row],
        **{f"coverage_{share}": _inside(rows, real, ends) for share, ends in INSIDE.items()},
    }
    found = rows.select("horizon", "tier", mae=error, width_90=pl.col("q95").cast(pl.Float64) - pl.col("q05"))
    return found.with_columns(
        part.alias(name) if isinstance(part, pl.Series) else pl.Series(name, part, nan_to_null=True)
        for name, part in values.items()
    )


def _naive(series: Series, rows: pl.DataFrame, at: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
    """The weekly naive forecast of each row, issued when it was."""
    ahead = rows["horizon"].to_numpy().astype(np.int64)
    issued, slot = np.unique(at - ahead, return_inverse=True)
    known = past(series, issued)
    season = known.season[slot, ahead - 1, row]
    return np.where(np.isfinite(season), season, known.last[slot, row]).astype(np.float64)


def _pinball(rows: pl.DataFrame, real: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the levels of the pinball loss, NaN without quantiles."""
    found = [rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in QUANTILES]
    return np.asarray(pinball_losses(np.stack(found, axis=-1), real, LEVELS).mean(axis=-1))


def _inside(rows: pl.DataFrame, real: NDArray[np.float64], ends: tuple[str, str]) -> NDArray[np.float64]:
    low, high = (rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ends)
    return np.where(np.isnan(low), np.nan, (low <= real) & (real <= high))


def _young(series: Series, tensors: Mapping[str, SeriesTensor], nodes: NodeSet) -> NDArray[np.bool_]:
    """(L, N): whether a sensor is in the first month after it was first heard; not those the stream began with."""
    times, step = series.tensor.times, int(FIRST_MONTH.total_seconds())
    start = series.config.calendar.period(0).key
    young = np.zeros((len(times), len(series.ids)), dtype=bool)
    for row, name in enumerate(series.ids):
        born = nodes.births.get(name)
        if born and born != start and born in tensors and name in tensors[born].sensor_ids:
            tensor = tensors[born]
            heard = tensor.observed[:, tensor.sensor_ids.index(name), 0]
            begun = int(tensor.times[int(heard.argmax())])
            young[:, row] = times < begun + step
    return young


def _days(seconds: NDArray[np.int64], timezone: str) -> pl.Series:
    """The day on the stream's clock of UTC seconds."""
    moments = pl.Series(seconds * 1000).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    return moments.dt.convert_time_zone(timezone).dt.date()
