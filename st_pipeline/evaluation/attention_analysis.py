"""Which sensors the forecasts of ST-Trans are made of."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.models.backbones.st_trans import STTrans
from st_pipeline.models.base import Forecaster
from st_pipeline.training.forecasts import evaluating
from st_pipeline.types import Graph, NodeSet, Window

MOST_READ = 32  # other sensors that a sensor's rows name, the most attended first


def attention_shares(forecaster: Forecaster, windows: Iterable[Window], graph: Graph) -> Tensor:
    """(N, N) on the CPU: the share of attention that forecasts of the row's sensor pay to the column's readings.

    Means over windows, forecast steps, heads and layers. Rows sum to 1; with `search="dense"`, of which the strongest
    readings alone are known, to less. Without a search each sensor reads itself. Of a ReLearner, the first pass counts.

    Raises:
        InputError: the backbone is another one.
    """
    model = forecaster.parts()["backbone"]
    if not isinstance(model, STTrans):
        raise InputError("this model has no attention graph; give it `backbone: st_trans`")
    if model.search == "none":
        return torch.eye(graph.num_nodes, dtype=torch.float64)
    total, count = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64), 0
    with evaluating(forecaster):
        for window in windows:
            for found in model.attention(window, graph, forecaster.embed(window, graph)):
                node, weight = (part.cpu().transpose(0, 1) for part in (found.node, found.weight))  # (N, B, H, K)
                total.scatter_add_(1, node.flatten(1), weight.double().flatten(1))
                count += node[0, ..., 0].numel()
    return total / count


def sensor_shares(shares: Tensor, nodes: NodeSet) -> pl.DataFrame:
    """A row per sensor: its attention to its own and to others' readings, and that which others pay to it, summed."""
    own = shares.diagonal()
    others, read_by = shares.sum(1) - own, shares.sum(0) - own
    columns = {"own": own, "others": others, "read_by": read_by}
    return pl.DataFrame({"sensor_id": nodes.ids, **{name: column.tolist() for name, column in columns.items()}})


def pair_shares(shares: Tensor, nodes: NodeSet) -> pl.DataFrame:
    """A row per pair of different sensors, `sensor_id` and what it `reads`, by falling share within a sensor.

    Pairs without attention have no row, and of a sensor no more than `MOST_READ` have one.
    """
    between = shares.clone().fill_diagonal_(0)
    share, place = between.sort(dim=1, descending=True, stable=True)
    share, place = share[:, :MOST_READ], place[:, :MOST_READ]
    found = share > 0
    row = torch.arange(len(shares))[:, None].expand_as(place)[found]
    ids = pl.Series(nodes.ids, dtype=pl.String)
    return pl.DataFrame(
        {"sensor_id": ids[row.tolist()], "reads": ids[place[found].tolist()], "share": share[found].tolist()},
        schema={"sensor_id": pl.String, "reads": pl.String, "share": pl.Float64},
    )
