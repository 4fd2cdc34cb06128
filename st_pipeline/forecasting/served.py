"""A model as it was after the newest period that it has learned, ready to forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from st_pipeline.config import StreamConfig
from st_pipeline.data.protocols import PROTOCOLS, SOUND, PeriodArrays
from st_pipeline.data.scaling import Scaler
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.forecasting.series import of_sensors, span_of_test
from st_pipeline.layers.node_table import node_tables
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.storage import digest_of
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.training.learner import Learner
from st_pipeline.training.trained import BACKBONE
from st_pipeline.types import NodeSet, Period

SHORT = 8  # letters of a digest in a model's id


@dataclass(frozen=True, eq=False)
class Served:
    """A trained model, ready to forecast.

    Attributes:
        through: the period it has learned last.
        ids: the sensors it was trained on, in order; `aside` are those whose rows it keeps without their being there.
        tested: UTC seconds of the first and last step of that period's test part, which calibrates its intervals.
    """

    learner: Learner
    through: Period
    ids: tuple[str, ...]
    aside: frozenset[str]
    forecaster: Forecaster
    scaler: Scaler
    tested: tuple[int, int]
    model_id: str


def newest_served(
    config: StreamConfig,
    model: ModelConfig,
    parts: Mapping[str, Mapping[str, BySeed]],
    tensors: Mapping[str, SeriesTensor],
    before: int,
) -> Served | None:
    """The model after the newest period before that index that it has learned, its first seed; None without any.

    A period in which a part is missing, or was trained with another configuration, does not count.

    Args:
        parts: part -> period key -> seed -> checkpoint.
        tensors: by period key.

    Raises:
        InputError: what is stored does not fit the configuration.
    """
    learner = Learner(config, model, model.runs[0])
    for index in reversed(range(before)):
        through = config.calendar.period(index)
        if through.key not in tensors or any(through.key not in parts[part] for part in model.parts):
            continue
        stored = {part: parts[part][through.key].get(learner.seed) for part in model.parts}
        found = {part: one for part, one in stored.items() if one and one.facts["configuration"] == learner.digest}
        if len(found) == len(model.parts):
            return _served(learner, found, through, tensors[through.key])
    return None


def _served(learner: Learner, parts: Mapping[str, Checkpoint], through: Period, tensor: SeriesTensor) -> Served:
    trained = learner.restore(parts)
    ids = tuple(parts[BACKBONE].facts["nodes"])
    tables = [table for module in trained.forecaster.parts().values() for table in node_tables(module).values()]
    aside = [frozenset(table.cold_ids) for table in tables]
    digest = digest_of({name: part.digest for name, part in parts.items()})[:SHORT]
    return Served(
        learner=learner,
        through=through,
        ids=ids,
        aside=frozenset.intersection(*aside) if aside else frozenset(),
        forecaster=trained.forecaster,
        scaler=_scaler(learner, trained.scaler, ids, tensor),
        tested=span_of_test(tensor, learner.stream),
        model_id=f"{learner.model.name}@{through.key}#{digest}",
    )


def _scaler(learner: Learner, scaler: Scaler, ids: tuple[str, ...], tensor: SeriesTensor) -> Scaler:
    """What the model's inputs were standardised by in training; protocol `paper` has statistics of its own."""
    if learner.model.protocol == SOUND.name:
        return scaler
    protocol = PROTOCOLS[learner.model.protocol]
    arrays = PeriodArrays.of(of_sensors(tensor, ids), NodeSet.of(ids), learner.stream, protocol=protocol)
    return arrays.part("train", scaler).scaler
