"""Published checkpoints of EAC, TrafficStream and STKEC: one backbone with node prompts, alone, or with a memory.

Names of the tensors are those of the public codes: `gcn1.*` and `gcn2.*` hold a linear layer with bias for the
neighbours and one without for the node itself, `tcn1.*` the convolution along the hidden axis, `fc.*` the output;
`U` (N, k) and `V` (k, T) are EAC's factors A and B, `memory` (M, T) STKEC's patterns. Such models read windows
standardised by one mean and deviation, and forecast in the unit of the readings (continual-methods, sections 0 to 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.interop.state import PublishedState, fill, fill_linear, read_state
from st_pipeline.layers.graph_conv import GraphConv
from st_pipeline.layers.hidden_conv import HiddenConv
from st_pipeline.models.backbones.stgnn import STGNN
from st_pipeline.models.backbones.stkec import STKEC
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import NodeSet, SeriesShape

STEPS_PER_DAY = 288  # of the published data; these networks do not use it


class _Skeleton(Protocol):
    gcn1: GraphConv
    tcn: HiddenConv
    gcn2: GraphConv
    fc: nn.Linear


def load_eac(path: Path | str, *, sensors: Sequence[str] | None = None) -> Forecaster:
    """EAC: `stgnn` with a prompt pool (ICLR 2025).

    Args:
        sensors: ids of the rows of U, in order; without them the first node set of as many sensors gives them.

    Raises:
        InputError: the file is no such checkpoint, or the ids are not as many as its rows.
    """
    state = read_state(path)
    bases = state.take("V", None, None)
    rows = state.take("U", None, len(bases))
    shape = _shape(state, len(rows))
    if bases.shape[1] != shape.window:
        raise InputError(f"{state.path}: V has {bases.shape[1]} columns, expected {shape.window} as gcn1 has inputs")
    backbone = STGNN(shape, hidden=_hidden(state))
    pool = PromptPool(backbone, rank=len(bases))
    assert pool.prompts.basis is not None
    fill(pool.prompts.nodes.appended, rows)
    fill(pool.prompts.basis, bases)
    state.refuse_rest(_fill_skeleton(backbone, state) | {"U", "V"}, "EAC")
    return named(pool, sensors, state.path, rows=len(rows))


def load_trafficstream(path: Path | str) -> Forecaster:
    """TrafficStream: `stgnn` alone (IJCAI 2021); it has nothing of single sensors.

    Raises:
        InputError: the file is no such checkpoint.
    """
    state = read_state(path)
    backbone = STGNN(_shape(state, 1), hidden=_hidden(state))
    state.refuse_rest(_fill_skeleton(backbone, state), "TrafficStream")
    return backbone.eval()


def load_stkec(path: Path | str) -> Forecaster:
    """STKEC: `stkec` as its code runs (T-ITS 2023); it has nothing of single sensors.

    Raises:
        InputError: the file is no such checkpoint.
    """
    state = read_state(path)
    shape = _shape(state, 1)
    patterns = state.take("memory", None, shape.window)
    backbone = STKEC(shape, patterns=len(patterns), hidden=_hidden(state))
    fill(backbone.memory.patterns, patterns)
    state.refuse_rest(_fill_skeleton(backbone, state) | {"memory"}, "STKEC")
    return backbone.eval()


def named(forecaster: Forecaster, sensors: Sequence[str] | None, path: Path, *, rows: int) -> Forecaster:
    """A forecaster whose rows belong to these sensors, in evaluation.

    Raises:
        InputError: the ids are not as many as the rows, or one is named twice.
    """
    if sensors is not None:
        if len(sensors) != rows or len(set(sensors)) != rows:
            raise InputError(
                f"{path}: has rows of {rows} sensors, but {len(set(sensors))} different ids were given; "
                "expected the id of each row, in order"
            )
        forecaster.expand(NodeSet.of(sensors))
    return forecaster.eval()


def _shape(state: PublishedState, num_nodes: int) -> SeriesShape:
    horizon, window = state.take("fc.weight", None, None).shape
    return SeriesShape(window, horizon, channels=1, num_nodes=num_nodes, steps_per_day=STEPS_PER_DAY)


def _hidden(state: PublishedState) -> int:
    neighbour, _ = _layers(state, "gcn1")
    return len(state.take(f"{neighbour}.bias", None))


def _fill_skeleton(backbone: _Skeleton, state: PublishedState) -> set[str]:
    """Fill what all three share; returns the names of the tensors used."""
    used = {"tcn1.weight", "tcn1.bias", "fc.weight", "fc.bias"}
    for name, layer in (("gcn1", backbone.gcn1), ("gcn2", backbone.gcn2)):
        neighbour, own = _layers(state, name)
        size = (layer.own.out_features, layer.own.in_features)
        bias = state.take(f"{neighbour}.bias", size[0])
        fill_linear(layer.neighbour, state.take(f"{neighbour}.weight", *size), bias)
        fill_linear(layer.own, state.take(f"{own}.weight", *size))
        used |= {f"{neighbour}.weight", f"{neighbour}.bias", f"{own}.weight"}
    fill(backbone.tcn.weight, state.take("tcn1.weight", 1, 1, 3))
    fill(backbone.tcn.bias, state.take("tcn1.bias", 1))
    fill_linear(backbone.fc, state.take("fc.weight", *backbone.fc.weight.shape), _bias(state, backbone.fc))
    return used


def _bias(state: PublishedState, layer: nn.Linear) -> Tensor:
    return state.take("fc.bias", layer.out_features)


def _layers(state: PublishedState, name: str) -> tuple[str, str]:
    """Names of a convolution's two linear layers: that of the neighbours has a bias, that of the node itself none.

    Raises:
        InputError: it has not these two.
    """
    weights = [found[1] for found in state.matching(rf"({name}\..+)\.weight").values()]
    biased = [layer for layer in weights if f"{layer}.bias" in state.tensors]
    plain = [layer for layer in weights if layer not in biased]
    if len(biased) != 1 or len(plain) != 1:
        raise InputError(
            f"{state.path}: {name} has {len(biased)} linear layers with bias and {len(plain)} without, expected one of "
            "each; is it a checkpoint of EAC, TrafficStream or STKEC?"
        )
    return biased[0], plain[0]
