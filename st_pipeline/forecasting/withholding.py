"""Whom it hurts if a sensor goes: the errors of the others when its readings are withheld."""

from __future__ import annotations

from typing import Any

import numpy as np

from st_pipeline.forecasting.cold_start import heard_enough, unheard
from st_pipeline.forecasting.points import Floats, GraphOf, Steps, known_points
from st_pipeline.forecasting.series import Series
from st_pipeline.forecasting.served import Served
from st_pipeline.forecasting.walk import Truth


def withheld(served: Served, series: Series, issued: Steps, name: str, graph_of: GraphOf) -> list[dict[str, Any]]:
    """One row for every other sensor that the model knows, whom it hurts most first.

    Keys: sensor_id; weight (of the edge by which it gathers from the one that goes, 0 without one); mae, mae_without
    in the unit of the readings; percent (change of the error); forecasts, cells. The weights of the model, and the
    sensor's place in the graph, stay.

    Args:
        issued: (S,) last steps read.
        name: a sensor that the model knows.
    """
    truth, future = Truth.of(series), series.future(issued).numpy()
    enough = heard_enough(series, issued)[:, None]
    errors = [
        np.where(truth.scored[future] & enough, np.abs(points - truth.truth[future]), np.nan)
        for points in (known_points(served, seen, issued, graph_of) for seen in (series, unheard(series, {name})))
    ]
    graph = graph_of(served.ids, served.through)
    ends = zip(graph.row.tolist(), graph.column.tolist(), graph.weight.tolist(), strict=True)
    weights = {served.ids[row]: weight for row, column, weight in ends if served.ids[column] == name}
    places = zip(served.ids, series.rows(served.ids).tolist(), strict=True)
    others = [(one, row) for one, row in places if one != name and row >= 0]
    rows = [_row(one, weights.get(one, 0.0), errors[0][..., row], errors[1][..., row]) for one, row in others]
    return sorted((row for row in rows if row["cells"]), key=lambda row: (-row["percent"], row["sensor_id"]))


def _row(name: str, weight: float, before: Floats, after: Floats) -> dict[str, Any]:
    counted = np.isfinite(before) & np.isfinite(after)
    mae, without = (float(one[counted].mean()) if counted.any() else 0.0 for one in (before, after))
    percent = 100 * (without / mae - 1) if mae > 0 else 0.0
    counts = {"forecasts": int(counted.any(axis=1).sum()), "cells": int(counted.sum())}
    return {"sensor_id": name, "weight": weight, "mae": mae, "mae_without": without, "percent": percent, **counts}
