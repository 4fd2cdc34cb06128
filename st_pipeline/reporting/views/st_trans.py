"""Which sensors the forecasts of ST-Trans read."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from st_pipeline.data.positions import Positions
from st_pipeline.evaluation.attention_analysis import attention_shares, pair_shares, sensor_shares
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import VIEWS
from st_pipeline.reporting.attention_plots import attention_plot
from st_pipeline.reporting.views.base import PAIR, SENSOR, Picture, View, as_kind, of_kind
from st_pipeline.types import Graph, NodeSet, Window


@VIEWS.register
class STTransView(View):
    """Shares of attention of every sensor, and of the pairs of sensors that have most of it."""

    def rows(self, forecaster: Forecaster, windows: Sequence[Window], graph: Graph, nodes: NodeSet) -> pl.DataFrame:
        shares = attention_shares(forecaster, windows, graph)
        tables = ((sensor_shares(shares, nodes), SENSOR), (pair_shares(shares, nodes), PAIR))
        return pl.concat([as_kind(table, kind) for table, kind in tables], how="diagonal")

    def pictures(self, rows: pl.DataFrame, places: Positions) -> dict[str, Picture]:
        text = "An arrow leads from a sensor to one whose forecasts read it, the wider the more attention it is paid."
        return {"attention": Picture(attention_plot(of_kind(rows, SENSOR), of_kind(rows, PAIR), places), text)}
