"""What the lake holds of a trained model: its parts after a period, and that period's data."""

from __future__ import annotations

from typing import Any

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.tensors import TENSOR
from st_pipeline.errors import InputError
from st_pipeline.model_config import ModelConfig
from st_pipeline.storage import Codec, lake
from st_pipeline.training.checkpoint import CHECKPOINTS, Checkpoint
from st_pipeline.training.trained import BACKBONE
from st_pipeline.training.updates import period_data

NETWORK: dict[str, Codec[Any]] = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}


def learned_periods(config: StreamConfig, model: ModelConfig) -> list[str]:
    """Keys of the periods that a model has learned, oldest first.

    Raises:
        InputError: there are none.
    """
    learned = lake().periods((config.name, model.name, BACKBONE), CHECKPOINTS.extension)
    if not learned:
        name = f"{config.name}/{model.name}"
        raise InputError(f"{name} has learned no period yet; run `st-pipeline run {config.name}` first")
    return learned


def learned_period(config: StreamConfig, model: ModelConfig, period: str | None) -> str:
    """One of the periods that a model has learned, by default the newest.

    Raises:
        InputError: it has not learned that one.
    """
    learned = learned_periods(config, model)
    if period is not None and period not in learned:
        raise InputError(
            f"{config.name}/{model.name} has not learned period {period}; it has learned {', '.join(learned)}"
        )
    return period or learned[-1]


def stored_network(config: StreamConfig, period: str) -> PeriodData:
    """The data of a period.

    Raises:
        InputError: something of it is not stored.
    """
    network = {name: {period: lake().read((config.name, name), period, codec)} for name, codec in NETWORK.items()}
    return period_data(config, period, network)


def stored_parts(config: StreamConfig, model: ModelConfig, period: str) -> dict[str, Checkpoint]:
    """The parts of a model's first seed after a period.

    Raises:
        InputError: one is not stored, or was trained with other seeds.
    """
    seed = model.runs[0]
    stored = {part: lake().read((config.name, model.name, part), period, CHECKPOINTS) for part in model.parts}
    if any(seed not in by_seed for by_seed in stored.values()):
        raise InputError(
            f"{config.name}/{model.name} of {period} was not trained with seed {seed}; "
            f"run `st-pipeline run {config.name}` again"
        )
    return {part: by_seed[seed] for part, by_seed in stored.items()}
