"""What a ReLearner does to each sensor."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from st_pipeline.data.positions import Positions
from st_pipeline.evaluation.relearner_analysis import ALPHA, BETA, sensor_table
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import VIEWS
from st_pipeline.reporting.relearner_plots import gate_bars, gate_map, residual_plot
from st_pipeline.reporting.views.base import SENSOR, Picture, View, as_kind
from st_pipeline.types import Graph, NodeSet, Window


@VIEWS.register
class ReLearnerView(View):
    """Gates of the smoothing, and the residual before and after it."""

    def rows(self, forecaster: Forecaster, windows: Sequence[Window], graph: Graph, nodes: NodeSet) -> pl.DataFrame:
        return as_kind(sensor_table(forecaster, windows, graph, nodes), SENSOR)

    def pictures(self, rows: pl.DataFrame, places: Positions) -> dict[str, Picture]:
        residual = "What the second pass makes of the residual, before and after smoothing."
        bars = "Gates of the smoothing and signed weights of the neighbours, by sensor."
        beta = "How far each sensor's gate is open: what the smoothing lets through."
        weight = "Sign and weight with which neighbours enter, kernel"
        found = {"residual": Picture(residual_plot(rows), residual), "gates": Picture(gate_bars(rows), bars)}
        if BETA in rows.columns:
            found["gate_map"] = Picture(gate_map(rows, places), beta)
        for gate in rows.columns:
            if gate.startswith(ALPHA):
                kernel = gate.removeprefix(ALPHA)
                found[f"weight_map_{kernel}"] = Picture(gate_map(rows, places, gate=gate), f"{weight} {kernel}.")
        return found
