"""Published state dictionaries of HimNet.

`encoder_t`, `encoder_s` and `decoder` have cells whose convolutions `gate` and `update` read [x; h] side by side, for
each term of the convolution; here x and h have layers of their own, so that their rows are taken apart (models,
section 2.1). Windows are standardised by one mean and deviation; so is the forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn

from st_pipeline.errors import InputError, closest
from st_pipeline.interop.graph_networks import named
from st_pipeline.interop.state import PublishedState, fill, fill_linear, read_state
from st_pipeline.layers.graph_gru import GraphGRU
from st_pipeline.layers.pooled_conv import PooledConv
from st_pipeline.layers.pooled_params import PooledLinear
from st_pipeline.models.backbones.himnet import CALENDAR, HimNet
from st_pipeline.models.base import Forecaster
from st_pipeline.types import SeriesShape

STEPS, WEEK, TERMS = 12, 7, 2  # of all six: window and horizon, days, terms of the convolution
STACKS = {"encoder_t": "temporal_encoder", "encoder_s": "spatial_encoder", "decoder": "decoder"}
FURTHER = (
    "tod_embedding.weight",
    "dow_embedding.weight",
    "node_embedding",
    *(f"{layer}.{kind}" for layer in ("st_proj", "out_proj") for kind in ("weight", "bias")),
)


class Published(NamedTuple):
    """Sizes that HimNet was published with for a data set (models, section 2.2)."""

    sensors: int
    hidden: int = 64
    day: int = 8
    week: int = 8
    spatial: int = 16
    mixed: int = 16
    tau: int = 6000


DATASETS = {
    "METRLA": Published(207),
    "PEMSBAY": Published(325),
    "PEMS03": Published(358, tau=4000),
    "PEMS04": Published(307, day=12, week=4, tau=4000),
    "PEMS07": Published(883),
    "PEMS08": Published(170, hidden=96, day=10, week=2, spatial=14, mixed=10),
}


def load_himnet(path: Path | str, dataset: str, *, sensors: Sequence[str] | None = None) -> Forecaster:
    """HimNet as published for a data set (KDD 2024): 12 steps of 5 minutes to 12.

    Args:
        dataset: one of `DATASETS`.
        sensors: ids of the rows of the node embedding, in order; without them the first node set of as many sensors
            gives them.

    Raises:
        InputError: there is no such data set, or the file is not its checkpoint.
    """
    if dataset not in DATASETS:
        raise InputError(f"HimNet was published for no data set {dataset!r}; {closest(dataset, DATASETS)}")
    size, state = DATASETS[dataset], read_state(path)
    shape = SeriesShape(STEPS, STEPS, channels=1, num_nodes=size.sensors, steps_per_day=24 * 60 // 5)
    options = {key: value for key, value in size._asdict().items() if key != "sensors"}
    model = HimNet(shape, order=TERMS, **options)
    assert model.temporal_embedding and model.spatial_embedding and model.mixed_embedding
    tables = model.temporal_embedding
    fill(tables.time_of_day, state.take("tod_embedding.weight", shape.steps_per_day, size.day))
    fill(tables.day_of_week, state.take("dow_embedding.weight", WEEK, size.week))
    fill(model.spatial_embedding.appended, state.take("node_embedding", size.sensors, size.spatial))
    for name, layer in (("st_proj", model.mixed_embedding), ("out_proj", model.out)):
        weight = state.take(f"{name}.weight", *layer.weight.shape)
        fill_linear(layer, weight, state.take(f"{name}.bias", layer.out_features))
    queries = {"encoder_t": size.day + size.week, "encoder_s": size.spatial, "decoder": size.mixed}
    used = set(FURTHER)
    for name, stack in STACKS.items():
        (unit,) = cast(nn.ModuleList, getattr(model, stack))
        used |= _fill_unit(cast(GraphGRU, unit), state, name, queries[name], size.hidden)
    state.refuse_rest(used, f"HimNet of {dataset}")
    return named(model, sensors, state.path, rows=size.sensors)


def _fill_unit(unit: GraphGRU, state: PublishedState, stack: str, query: int, hidden: int) -> set[str]:
    """Fill a recurrent unit; returns the names of the tensors used."""
    used, of_x, biases = set(), [], []
    for kind, target, outputs in (("gate", unit.gates, 2 * hidden), ("update", unit.candidate, hidden)):
        prefix = _cell(state, stack, kind)
        pool = state.take(f"{prefix}.weights_pool", query, TERMS * (1 + CALENDAR + hidden), outputs)
        bias = state.take(f"{prefix}.bias_pool", query, outputs)
        x, h = pool.unflatten(1, (TERMS, -1)).split([1 + CALENDAR, hidden], dim=2)  # of each term: x, then h
        fill(_pool(target).weight, h.flatten(1, 2))
        of_x.append(x.flatten(1, 2))
        biases.append(bias)
        used |= {f"{prefix}.weights_pool", f"{prefix}.bias_pool"}
    inputs = _pool(unit.inputs)
    assert inputs.bias is not None
    fill(inputs.weight, torch.cat(of_x, dim=2))
    fill(inputs.bias, torch.cat(biases, dim=1))
    return used


def _cell(state: PublishedState, stack: str, kind: str) -> str:
    """Where a convolution of a stack's only cell is found.

    Raises:
        InputError: it is not there, or there are several.
    """
    found = [match[1] for match in state.matching(rf"({stack}\.(?:\w+\.)*{kind})\.weights_pool").values()]
    if len(found) != 1:
        raise InputError(
            f"{state.path}: {stack} has {len(found)} convolutions called {kind!r}, expected one; is it HimNet's?"
        )
    return found[0]


def _pool(layer: nn.Module) -> PooledLinear:
    return cast(PooledLinear, cast(PooledConv, layer).linear)
