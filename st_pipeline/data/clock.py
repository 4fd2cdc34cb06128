"""From what a file calls a time to an instant: time zones, clock changes, interval labels, the grid of steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.periods import Period

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def resolve(raw: pl.DataFrame, config: StreamConfig) -> pl.DataFrame:
    """Rows with `timestamp` as the UTC instant at which the interval begins, and `skipped`.

    A label that a clock change repeats is two instants: of a sensor's two rows the earlier received is the first;
    without reception times they are put in the order that follows the trend around the change, which does not
    depend on the order of the rows; a single row is the first. A label that a clock change skips is `skipped` and
    read as if the clock had not changed.
    """
    if (shift := common_shift(raw["timestamp"], config)) is not None:
        return shifted(raw, shift)
    labels = raw.select("timestamp").unique().with_columns(_instants(config.timezone))
    rows = raw.join(labels, on="timestamp", how="left", maintain_order="left")
    twice = pl.col("first") != pl.col("second")
    if rows.select(twice.any()).item():
        rows = pl.concat([rows.filter(~twice), _choose(rows.filter(twice), rows, config)])
    instant = pl.col("first").dt.convert_time_zone("UTC") - config.label_lag
    return rows.with_columns(instant.alias("timestamp")).drop("first", "second")


def common_shift(labels: pl.Series, config: StreamConfig) -> timedelta | None:
    """What `resolve` moves all these timestamps by, if that is the same, so that rows need not know of each other."""
    if labels.dtype == pl.Datetime("ms", "UTC"):
        return -config.label_lag
    offset = _constant_offset(labels, config.timezone)
    return None if offset is None else offset - config.label_lag


def shifted(raw: pl.DataFrame, shift: timedelta) -> pl.DataFrame:
    """Any of the rows that `shift` is common to, as `resolve` returns them."""
    moved = pl.col("timestamp") + shift if shift else pl.col("timestamp")
    return raw.with_columns(moved.dt.replace_time_zone("UTC"), pl.lit(False).alias("skipped"))


def _constant_offset(labels: pl.Series, timezone: str) -> timedelta | None:
    """From labels to their instants, where no clock change is near and it is the same for all.

    Clocks change at quarters of an hour, so these are looked at, however many labels there are.
    """
    first, last = labels.min(), labels.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return None
    quarters = pl.datetime_range(first - DAY, last + DAY, "15m", time_unit="ms", eager=True).dt.truncate("15m")
    offset = pl.col("first").dt.convert_time_zone("UTC").dt.replace_time_zone(None) - pl.col("timestamp")
    told = (
        quarters.alias("timestamp")
        .to_frame()
        .with_columns(_instants(timezone))
        .select(
            plain=((pl.col("first") == pl.col("second")) & ~pl.col("skipped")).all() & (offset.min() == offset.max()),
            offset=offset.min(),
        )
    )
    return told["offset"][0] if told["plain"][0] else None


def _instants(timezone: str) -> list[pl.Expr]:
    """Of naive labels: the first and second instant (the same outside clock changes), and whether it is skipped."""
    label = pl.col("timestamp")

    def zoned(expression: pl.Expr, ambiguous: str) -> pl.Expr:
        return expression.dt.replace_time_zone(timezone, ambiguous=ambiguous, non_existent="null")  # type: ignore[arg-type]

    # a day earlier, because a place that changes sides of the date line skips a whole one
    skipped = zoned(label, "earliest").is_null()
    before = zoned(label - DAY, "earliest") + DAY
    return [
        pl.coalesce(zoned(label, "earliest"), before).alias("first"),
        pl.coalesce(zoned(label, "latest"), before).alias("second"),
        skipped.alias("skipped"),
    ]


def _choose(repeated: pl.DataFrame, rows: pl.DataFrame, config: StreamConfig) -> pl.DataFrame:
    """Repeated labels with `first` set to the instant each row stands for."""
    target = config.variable_names[0]
    repeated = repeated.with_columns(pl.col("timestamp").dt.date().alias("change"))
    edges = repeated.group_by("sensor_id", "change").agg(
        (pl.col("timestamp").min() - config.step).alias("before"),
        (pl.col("timestamp").max() + config.step).alias("after"),
    )
    around = rows.group_by("sensor_id", "timestamp").agg(pl.col(target).mean().alias("level"))
    for side in ("before", "after"):
        level = around.rename({"timestamp": side, "level": f"{side}_level"})
        edges = edges.join(level, on=["sensor_id", side], how="left")
    falling = (pl.col("before_level") > pl.col("after_level")).fill_null(False)
    keys = ["sensor_id", "timestamp"]
    order = ([pl.col("received")] if "received" in repeated.columns else []) + [
        pl.when(falling).then(-pl.col(target)).otherwise(pl.col(target))
    ]
    others = [pl.col(name) for name in config.variable_names[1:]]
    ranked = (
        repeated.join(edges, on=["sensor_id", "change"], how="left")
        .sort(*keys, *order, *others, nulls_last=True)
        .with_columns(pl.int_range(pl.len()).over(keys).alias("turn"))
    )
    chosen = pl.when(pl.col("turn") == 0).then(pl.col("first")).otherwise(pl.col("second"))
    return ranked.with_columns(chosen.alias("first")).drop(
        "change", "before", "after", "before_level", "after_level", "turn"
    )


def step_count(period: Period, step: timedelta) -> int:
    """Number of steps of the period, by elapsed time: a clock change makes a day of 23 or 25 hours."""
    elapsed = period.end.astimezone(UTC) - period.start.astimezone(UTC)
    return (elapsed + step / 2) // step


def step_index(
    instants: pl.Series, period: Period, config: StreamConfig
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of UTC instants: the step each belongs to, and whether it lies on the grid.

    Steps longer than an hour are counted on the local clock, so a clock change moves them by an hour.
    """
    step = config.step
    tolerance = max(config.source.tolerance or timedelta(0), HOUR if step > HOUR else timedelta(0))
    size, most = (int(part.total_seconds() * 1000) for part in (step, tolerance))
    offset = instants.dt.epoch("ms").to_numpy() - int(period.start.timestamp() * 1000)
    index = offset + size // 2
    index //= size
    offset -= index * size  # how far from its step
    return index, (offset >= -most) & (offset <= most)


def step_times(period: Period, step: timedelta, count: int) -> pl.Series:
    """UTC instants of the period's steps."""
    start = period.start.astimezone(UTC)
    return pl.datetime_range(
        start, start + step * (count - 1), interval=step, time_unit="ms", time_zone="UTC", eager=True
    ).alias("timestamp")


def calendar_features(
    seconds: NDArray[np.int64], timezone: str, step: timedelta
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slot of the local day and day of the local week (Monday 0) of the steps that begin at UTC instants in seconds.

    The middle of a step decides, because a clock change moves the beginnings of long steps off the local slots.
    """
    middle = (int(step.total_seconds()) - 1) // 2
    local = (
        pl.Series((seconds + middle) * 1000)
        .cast(pl.Datetime("ms"))
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone(timezone)
    )
    passed = (
        local.dt.hour().cast(pl.Int64) * 3600 + local.dt.minute().cast(pl.Int64) * 60 + local.dt.second().cast(pl.Int64)
    )
    slot = (passed // int(step.total_seconds())).to_numpy()
    return slot.astype(np.int64), (local.dt.weekday().to_numpy() - 1).astype(np.int64)
