"""What the model of the period before makes of a new period, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import SOUND, PartName, PeriodArrays
from st_pipeline.evaluation.metrics import Tally
from st_pipeline.evaluation.naive import NaiveForecasts
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.scoring import prepared
from st_pipeline.evaluation.transfer import BASELINE
from st_pipeline.model_config import ModelConfig
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.learner import Learner

PROBED: PartName = "validation"  # the newest days whose truth a training may see; the test part comes after them


@dataclass(frozen=True)
class Probe:
    """Errors (published average, unit of the readings) of the frozen model and the weekly naive forecast, above 0."""

    error: float
    naive: float

    @property
    def ratio(self) -> float:
        """Error of the model in shares of the naive one's."""
        return self.error / self.naive


def probe(
    stream: StreamConfig, model: ModelConfig, parts: Mapping[str, BySeed], data: PeriodData, *, compute: Compute
) -> Probe | None:
    """Score the model as the period before left it on the validation part of a period, mean over its seeds.

    None where no seed of the model has its parts, or nothing in that part can be scored.

    Args:
        parts: part -> seed -> checkpoint after the period before.

    Raises:
        InputError: the part is too short for a window, or the checkpoints do not fit the model.
    """
    errors = [
        _error(Learner(stream, model, seed), {part: by_seed[seed] for part, by_seed in parts.items()}, data, compute)
        for seed in model.runs
        if all(seed in by_seed for by_seed in parts.values())
    ]
    sound = PeriodArrays.of(data.tensor, data.nodes, stream, protocol=SOUND)
    naive = Tally.of(NaiveForecasts(sound, stream.steps_per_day).batches(BASELINE, PROBED))
    found = Probe(fmean(errors), _published(naive)) if errors else None
    return found if found and found.error > 0 and found.naive > 0 else None  # not so where they are no numbers


def _error(learner: Learner, parts: Mapping[str, Checkpoint], data: PeriodData, compute: Compute) -> float:
    with learner.planned(data, compute, f"{learner.stream.name}/{learner.model.name} before training") as (usage, plan):
        trained = learner.restore(parts)
        trained.scaler = trained.scaler.to(usage.device)
        part, graph, forecaster = prepared(learner, trained, data, usage.device, PROBED)
        return _published(Tally.of(forecasts(forecaster, part, graph, most=plan.windows)))


def _published(tally: Tally) -> float:
    return float(tally.scores()["mae", PUBLISHED])
