"""A published checkpoint in place of a period's training.

The weights are left where a training that was cut off leaves its finished result; the Dagster run that would train
the period takes them up and stores them, with the lineage of every other result. What is stored says `imported`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.scaling import Scaler
from st_pipeline.errors import InputError
from st_pipeline.forecasting.stored import stored_network, stored_parts
from st_pipeline.interop.graph_networks import load_eac, load_stkec, load_trafficstream
from st_pipeline.interop.himnet import load_himnet
from st_pipeline.layers.node_table import node_tables
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.storage import digest
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.training.resume import Journal, resume_root
from st_pipeline.training.taken import Taken


@dataclass(frozen=True)
class Given:
    """What a checkpoint does not say.

    Attributes:
        sensors: ids of its rows, in order.
        statistics: mean and standard deviation that its windows were standardised by.
        dataset: that HimNet was published for.
    """

    sensors: tuple[str, ...] | None = None
    statistics: tuple[float, float] | None = None
    dataset: str | None = None


@dataclass(frozen=True)
class Kind:
    """A published method.

    Attributes:
        protocol: that a model of it must have, `paper` if it forecasts in the unit of the readings.
        needs: what must be given, by the names of `Given`; anything else must not.
    """

    load: Callable[[Path, Given], Forecaster]
    protocol: Literal["sound", "paper"]
    needs: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "eac": Kind(lambda path, given: load_eac(path, sensors=given.sensors), "paper", ("sensors",)),
    "trafficstream": Kind(lambda path, _: load_trafficstream(path), "paper"),
    "stkec": Kind(lambda path, _: load_stkec(path), "paper"),
    "himnet": Kind(
        lambda path, given: load_himnet(path, given.dataset or "", sensors=given.sensors),
        "sound",
        ("sensors", "statistics", "dataset"),
    ),
}
OPTIONS = {
    "sensors": "the id of each row's sensor: --sensors FILE",
    "statistics": "what its windows were standardised by: --mean and --std",
    "dataset": "the data set it was published for: --dataset",
}


def take_over(
    config: StreamConfig, model: ModelConfig, period: str, *, kind: str, path: Path, given: Given, compute: Compute
) -> dict[str, Checkpoint]:
    """Leave a checkpoint as the finished training of a period; the parts that will be stored.

    Args:
        period: whose data are stored, and which the model has not learned.

    Raises:
        InputError: something is missing, or the checkpoint does not fit the model or the network.
    """
    learner = Learner(config, model, model.runs[0])
    data = stored_network(config, period)
    forecaster = _load(learner, kind, path, given)
    if given.sensors is not None and (unknown := [name for name in data.nodes.ids if name not in given.sensors]):
        raise InputError(
            f"{config.name} of {period} has {len(unknown)} sensors that the checkpoint has not, e.g. {unknown[0]!r}; "
            "expected an id for each in --sensors"
        )
    forecaster.expand(data.nodes)
    before = config.calendar.find(period).index - 1
    earlier = config.calendar.period(before).key if before >= 0 else None
    journal = Journal(resume_root() / config.name / model.name / period, every=0.0)
    record = journal.of(learner.seed)
    record.begun = -math.inf  # its result is kept, however short this was
    return learner.learn(
        data,
        stored_parts(config, model, earlier) if earlier else None,
        compute=compute,
        earlier=stored_network(config, earlier) if earlier else None,
        record=record,
        taken=Taken(
            {name: _contents(part) for name, part in forecaster.parts().items()},
            _scaler(learner, data, given),
            {"kind": kind, "file": path.name, "digest": digest(path.read_bytes())},
        ),
    )


def _load(learner: Learner, name: str, path: Path, given: Given) -> Forecaster:
    """The checkpoint's model, if all that is missing in it was given and nothing else.

    Raises:
        InputError: it was not, or the model of the stream is of another kind.
    """
    model, kind = learner.model, KINDS[name]
    for option, meaning in OPTIONS.items():
        there, needed = getattr(given, option) is not None, option in kind.needs
        if there != needed:
            told = "does not say" if needed else "has no use for"
            raise InputError(f"a checkpoint of {name} {told} {meaning}")
    if model.protocol != kind.protocol:
        unit = "the unit of the readings" if kind.protocol == "paper" else "standardised units"
        raise InputError(
            f"model {model.name!r} has protocol {model.protocol!r}, expected {kind.protocol!r}: a published {name} "
            f"forecasts in {unit}; add a model with that protocol to the stream file"
        )
    if model.scaling.transform != "none":
        raise InputError(f"model {model.name!r} has scaling.transform {model.scaling.transform!r}, expected 'none'")
    if len(model.runs) > 1:
        raise InputError(
            f"model {model.name!r} has {len(model.runs)} seeds and a checkpoint is one; give it one `seed`"
        )
    return kind.load(path, given)


def _contents(part: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, tuple[Any, Any]]]:
    """Tensors of a part, and of each of its node tables the ids of its rows and of those kept aside."""
    tables = {name: (table.ids, table.cold_ids) for name, table in node_tables(part).items()}
    return dict(part.state_dict()), tables


def _scaler(learner: Learner, data: PeriodData, given: Given) -> Scaler:
    """That of the published training, or under protocol `paper` the one that is stored of any model."""
    if given.statistics is None:
        return learner.arrays(data).fit_scaler(learner.model.scaling)
    shape = (len(data.nodes), len(learner.stream.input_names))
    mean, scale = (torch.full(shape, value) for value in given.statistics)
    return Scaler("none", data.nodes.ids, mean, scale, {})
