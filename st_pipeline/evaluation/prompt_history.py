"""Prompts of a model over its periods: what the training of each recorded, and what they do to its own windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl
from torch import Tensor

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.windows import spaced
from st_pipeline.errors import InputError
from st_pipeline.evaluation.prompt_analysis import SCHEMA, analyse, prompts_of
from st_pipeline.evaluation.prompt_spectrum import RankAdvice, advise_rank, spectrum
from st_pipeline.evaluation.scoring import require_same_sensors
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.training.forecasts import evaluating
from st_pipeline.training.learner import Learner

POOL = "prompt_pool"
WATCHED = "deviation"  # what `PromptPool.watched` calls the deviation of the prompts
MOST_WINDOWS = 256  # of a period that are embedded, evenly spaced over its training part
MOST_NUMBERS = 1 << 24  # of the embedded windows, beyond which they are fewer


@dataclass(frozen=True)
class PromptHistory:
    """Rows of every seed (`prompt_analysis.SCHEMA`); shares, epochs and advice are those of the first.

    Attributes:
        shares: period -> normalised cumulative singular values.
        epochs: period -> deviation of the prompts after each epoch; empty where nothing was trained.
        advice: on the rank, from the newest period; None where its prompts are all 0.
    """

    rows: pl.DataFrame
    shares: Mapping[str, list[float]]
    epochs: Mapping[str, list[float]]
    advice: RankAdvice | None


def prompt_history(
    stream: StreamConfig, model: ModelConfig, periods: Iterable[tuple[Mapping[str, BySeed], PeriodData]]
) -> PromptHistory:
    """Analyse the prompts of a model period by period, on the CPU.

    Args:
        periods: oldest first, part -> seed -> checkpoint after the period, and the data it was trained on; only one
            of them is held at a time.

    Raises:
        InputError: a checkpoint does not fit the model or the data.
    """
    frames = [pl.DataFrame(schema=SCHEMA)]
    shares: dict[str, list[float]] = {}
    epochs: dict[str, list[float]] = {}
    counts: list[int] = []
    advice = None
    rank = model.prompt_pool.factors if model.prompt_pool else None
    for parts, data in periods:
        key, first = data.period.key, parts[POOL][model.runs[0]]
        for seed in model.runs:
            own = {part: by_seed[seed] for part, by_seed in parts.items()}
            inputs = embedded_windows(Learner(stream, model, seed), own, data)
            frames.append(analyse({key: own[POOL]}, {key: inputs}))
        found = spectrum(prompts := prompts_of(first))
        counts.append(len(prompts))
        shares[key] = found.shares.tolist() if found.singular_values[0] else []
        epochs[key] = first.facts.get("watched", {}).get(WATCHED, [])
        advice = advise_rank(prompts, num_nodes=counts, width=prompts.shape[1], rank=rank) if shares[key] else None
    return PromptHistory(pl.concat(frames), shares, epochs, advice)


def embedded_windows(
    learner: Learner, parts: Mapping[str, Checkpoint], data: PeriodData, *, most: int = MOST_WINDOWS
) -> Tensor:
    """Embedded windows (S, n, d) of a period's training part without their prompts: EAC's X.

    Raises:
        InputError: the model has no prompt pool, or was trained on other sensors.
    """
    trained = learner.restore(parts)
    name = f"{learner.stream.name}/{learner.model.name} of {data.period.key}"
    pool = next((part for part in trained.forecaster.modules() if isinstance(part, PromptPool)), None)
    if pool is None:
        raise InputError(f"{name} has no node prompts; give it a `prompt_pool`")
    require_same_sensors(learner, parts, data)
    part = learner.arrays(data).part("train", trained.scaler)
    fitting = max(1, MOST_NUMBERS // (len(data.nodes) * pool.width))
    count = min(most, fitting)
    with evaluating(pool):
        hidden = pool.inner.embed(part.windows.inputs(spaced(part.starts, count)), data.graph)
    return hidden.flatten(0, -3)
