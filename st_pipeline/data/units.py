"""Readings of sensors that measure in another unit than the stream."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from st_pipeline.config import StreamConfig

FACTOR = "unit_factor"


def unit_table(sensors: pl.DataFrame) -> pl.DataFrame:
    """Rows (sensor_id, valid_from, unit_factor) of the sensors that ever have a factor other than 1, in order.

    A row of the sensor table says all of a sensor from its date on, so an empty factor is 1.
    """
    if FACTOR not in sensors.columns:
        return pl.DataFrame(schema={"sensor_id": pl.String, "valid_from": pl.Date, FACTOR: pl.Float64})
    rows = sensors.select("sensor_id", pl.col("valid_from").fill_null(date.min), pl.col(FACTOR).fill_null(1.0))
    other = rows.filter(pl.col(FACTOR) != 1)["sensor_id"].unique().implode()
    return rows.filter(pl.col("sensor_id").is_in(other)).sort("valid_from", "sensor_id")


def in_stream_unit(raw: pl.DataFrame, sensors: pl.DataFrame, config: StreamConfig) -> pl.DataFrame:
    """The same rows with the target in the stream's unit: times the factor that holds on the day of the reading.

    The day is that of the interval's start on the stream's clock. Sentinels stay what they are.
    """
    table = unit_table(sensors)
    if table.is_empty():
        return raw
    target = config.variable_names[0]
    begins = pl.col("timestamp") - config.label_lag
    if getattr(raw.schema["timestamp"], "time_zone", None):
        begins = begins.dt.convert_time_zone(config.timezone)
    rows = raw.select(
        pl.col("sensor_id").cast(pl.String), begins.dt.date().alias("day"), pl.int_range(pl.len()).alias("at")
    ).filter(pl.col("sensor_id").is_in(table["sensor_id"].unique().implode()) & pl.col("day").is_not_null())
    found = rows.sort("day").join_asof(
        table, left_on="day", right_on="valid_from", by="sensor_id", strategy="backward", check_sortedness=False
    )
    factor = np.ones(len(raw))
    factor[found["at"].to_numpy()] = found[FACTOR].fill_null(1.0).to_numpy()
    wide = np.array(config.rules(target).sentinels)
    written = [*wide.tolist(), *wide.astype(np.float32).tolist()]
    value, scale = pl.col(target), pl.Series(FACTOR, factor)
    scaled = pl.when((pl.lit(scale) == 1) | value.cast(pl.Float64).is_in(written)).then(value).otherwise(value * scale)
    return raw.with_columns(scaled.cast(raw.schema[target]).alias(target))
