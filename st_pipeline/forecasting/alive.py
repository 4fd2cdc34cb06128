"""Which sensors get a forecast when it is issued, by what is known then."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.forecasting.series import Series, join
from st_pipeline.types import NodeSet, Period


def declared(sensors: pl.DataFrame) -> tuple[str, ...]:
    """Ids that the sensor table gives a date of installation."""
    known = sensors.filter(pl.col("installed").is_not_null())
    return tuple(known["sensor_id"].unique().sort().to_list())


def alive(
    series: Series, issued: NDArray[np.int64], *, sensors: pl.DataFrame, before: NodeSet | None
) -> NDArray[np.bool_]:
    """(S, N): sensors that are to be forecast from the last steps that are read (S,).

    A sensor that was a node of the period before, has been heard in this one, or is installed by the sensor table and
    was never heard; not one that the table retires. Nothing heard later counts, so that a forecast issued in the past
    stays what it was.

    Args:
        sensors: the sensor table, `SENSOR_SCHEMA`.
        before: the node set of the period before; None in the first.
    """
    inside = slice(series.begin, None)
    heard = series.tensor.observed[inside, :, 0]
    first = np.where(heard.any(0), heard.argmax(0), len(heard)) + series.begin
    living = first <= issued[:, None]
    living |= np.isin(series.ids, before.ids if before else ())
    born = np.isin(series.ids, list(before.births) if before else ())
    zone = ZoneInfo(series.config.timezone)
    days = [datetime.fromtimestamp(second, UTC).astimezone(zone).date() for second in series.ends[issued].tolist()]
    distinct = sorted(set(days))
    place = np.searchsorted(np.array(distinct, dtype="datetime64[D]"), np.array(days, dtype="datetime64[D]"))
    installed, retired = _declared_on(distinct, series.ids, sensors)
    return np.asarray((living | (installed[place] & ~born)) & ~retired[place])


def _declared_on(
    days: list[date], ids: Iterable[str], sensors: pl.DataFrame
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(D, N): installed, and retired, by the row of the table that is valid on a day."""
    place = {name: row for row, name in enumerate(ids)}
    on = np.array(days, dtype="datetime64[D]")
    installed, retired = (np.zeros((len(days), len(place)), dtype=bool) for _ in range(2))
    rows = sensors.sort("valid_from", nulls_last=False, maintain_order=True)
    for name, begin, end, valid in rows.select("sensor_id", "installed", "retired", "valid_from").iter_rows():
        if name in place:
            valid_now = np.ones(len(on), dtype=bool) if valid is None else on >= np.datetime64(valid)
            installed[valid_now, place[name]] = False if begin is None else (on >= np.datetime64(begin))[valid_now]
            retired[valid_now, place[name]] = False if end is None else (on >= np.datetime64(end))[valid_now]
    return installed, retired


def missing_rows(
    config: StreamConfig,
    period: Period,
    forecasts: pl.DataFrame,
    tensor: SeriesTensor,
    *,
    sensors: pl.DataFrame,
    before: NodeSet | None,
) -> pl.DataFrame:
    """`issued_at`, `sensor_id` of the due forecasts that not all steps are published of.

    Args:
        forecasts: published rows.
        tensor: of the period.
    """
    names = {*declared(sensors), *(before.ids if before else ())}
    series = join(config, {period.key: tensor}, period, sensors=names)
    issued = series.slots()
    slot, row = np.nonzero(alive(series, issued, sensors=sensors, before=before))
    due = pl.DataFrame(
        {
            "issued_at": pl.Series(series.ends[issued][slot] * 1000).cast(forecasts.schema["issued_at"]),
            "sensor_id": pl.Series(series.ids, dtype=pl.String).gather(row.astype(np.uint32)),
        }
    )
    steps = forecasts.group_by("issued_at", "sensor_id").agg(pl.col("horizon").n_unique().alias("steps"))
    whole = steps.filter(pl.col("steps") == config.horizon)
    return due.join(whole, on=["issued_at", "sensor_id"], how="anti", maintain_order="left")
