"""What a ReLearner does to each sensor: its gates, and the residual before and after smoothing."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.layers.flat_steps import flat
from st_pipeline.models.base import Forecaster
from st_pipeline.models.relearner import ReLearner
from st_pipeline.training.forecasts import evaluating
from st_pipeline.types import Graph, NodeSet, Window

BETA = "beta"  # column of the gate
ALPHA = "alpha_"  # begins the column of each kernel


def residuals(forecaster: Forecaster, window: Window, graph: Graph) -> tuple[Tensor, Tensor]:
    """What the second pass makes of the residual of some windows, before and after smoothing: (B, N, F) each.

    Raises:
        InputError: the model has no ReLearner.
    """
    model = _relearner(forecaster)
    with evaluating(model):
        found = model.passes(model.embed(window, graph), window, graph)
    return flat(found.second), flat(found.smoothed)


def sensor_table(forecaster: Forecaster, windows: Iterable[Window], graph: Graph, nodes: NodeSet) -> pl.DataFrame:
    """A row per sensor: gate beta, a signed weight alpha_KERNEL of each kernel, and the residual before and after.

    Residuals are root mean squares over windows and features; without smoothing there are no gates, and both are equal.

    Raises:
        InputError: the model has no ReLearner.
    """
    model = _relearner(forecaster)
    columns: dict[str, Tensor] = {}
    if model.correction.smoothing is not None:
        alpha, beta = model.correction.smoothing.gates()
        columns = {BETA: beta, **{f"{ALPHA}{kernel}": weights for kernel, weights in alpha.items()}}
    squares, count = torch.zeros(2, len(nodes), dtype=torch.float64), 0
    for window in windows:
        both = torch.stack(residuals(model, window, graph)).cpu().double()  # (2, B, N, F)
        squares += both.square().sum((1, 3))
        count += both[0, :, 0].numel()
    before, after = (squares / count).sqrt()
    columns |= {"before": before, "after": after}
    numbers = {name: column.to("cpu", torch.float64).tolist() for name, column in columns.items()}
    return pl.DataFrame({"sensor_id": nodes.ids, **numbers})


def _relearner(forecaster: Forecaster) -> ReLearner:
    found = next((part for part in forecaster.modules() if isinstance(part, ReLearner)), None)
    if found is None:
        raise InputError("this model corrects nothing; give it a `relearner: {}`")
    return found
