"""What HimNet has learned of times and of sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl
from torch import Tensor

from st_pipeline.data.positions import Positions
from st_pipeline.models.backbones.himnet import HimNet
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import VIEWS
from st_pipeline.reporting.himnet_plots import Rows, spatial_map, spatial_plot, temporal_plot
from st_pipeline.reporting.views.base import DAY, SENSOR, TIME, Picture, View, as_kind, of_kind
from st_pipeline.types import Graph, NodeSet, Window


@VIEWS.register
class HimNetView(View):
    """Embeddings of the times of day, the days of the week and the sensors, row by row; null where there is none."""

    def rows(self, forecaster: Forecaster, windows: Sequence[Window], graph: Graph, nodes: NodeSet) -> pl.DataFrame:
        model = cast(HimNet, forecaster.parts()["backbone"])
        times, sensors = model.temporal_embedding, model.spatial_embedding
        ids = pl.DataFrame({"sensor_id": nodes.ids})
        frames = [as_kind(ids.with_columns(_column(None if sensors is None else sensors.table(), len(nodes))), SENSOR)]
        if times is not None:
            for kind, table in ((TIME, times.time_of_day), (DAY, times.day_of_week)):
                slots = pl.DataFrame({"slot": range(len(table))}, schema={"slot": pl.Int64})
                frames.append(as_kind(slots.with_columns(_column(table, len(table))), kind))
        return pl.concat(frames, how="diagonal")

    def pictures(self, rows: pl.DataFrame, places: Positions) -> dict[str, Picture]:
        times, days, sensors = (_matrix(of_kind(rows, kind)) for kind in (TIME, DAY, SENSOR))
        week = "Embeddings of every time of a week along their first two principal axes."
        plane = "Embeddings of the sensors along their first two principal axes: near each other, treated alike."
        where = "The same sensors where they are, in the same colours."
        return {
            "temporal_embedding": Picture(temporal_plot(times, days), week),
            "spatial_embedding": Picture(spatial_plot(sensors), plane),
            "spatial_map": Picture(spatial_map(sensors, places), where),
        }


def _column(table: Tensor | None, count: int) -> pl.Series:
    """A row of the table in each cell, or nulls where there is no table."""
    cells = [None] * count if table is None else table.detach().cpu().double().tolist()
    return pl.Series("embedding", cells, dtype=pl.List(pl.Float64))


def _matrix(rows: pl.DataFrame) -> Rows:
    """(M, D), without rows where nothing is known."""
    known = rows["embedding"].drop_nulls().to_list() if "embedding" in rows.columns else []
    return np.array(known, dtype=np.float64) if known else np.zeros((0, 0))
