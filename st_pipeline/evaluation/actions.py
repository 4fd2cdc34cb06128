"""What can be done when a period arrives, and the models that show what each brings and takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Self

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.advice_rule import ACTIONS, NOTHING, PROMPTS_ONLY, RETRAINED
from st_pipeline.evaluation.cost_ledger import costs
from st_pipeline.evaluation.counterfactual import FIELDS, RETRAIN
from st_pipeline.evaluation.rows import PUBLISHED, over_seeds
from st_pipeline.evaluation.transfer import baseline_errors
from st_pipeline.model_config import ModelConfig

INPUTS = [name for name in FIELDS if name != "training"]
ByPeriod = dict[str, float]


def retrained_twin(config: StreamConfig, model: ModelConfig) -> ModelConfig | None:
    """The stream's model that differs from this one in being trained anew in every period, and in its seeds alone."""
    for other in config.every_model:
        same = other.protocol == model.protocol and all(getattr(other, f) == getattr(model, f) for f in INPUTS)
        training = model.training.model_copy(update={"later": None})
        if same and other.strategy.name == RETRAIN and other.training == training and other.name != model.name:
            return other
    return None


@dataclass(frozen=True)
class Outcomes:
    """Errors (published average) and seconds of training, by action and period, as far as they are known.

    The frozen model of `nothing` and the tuned one of `prompts_only` are one model, right before and right after it
    learned the period. With a twin, errors are means over the seeds that both have.

    Attributes:
        tuned: of the model right after learning each period, over all its seeds.
        frozen: of the model before, on that period, over all its seeds.
        naive: of the weekly naive forecast.
    """

    errors: Mapping[str, ByPeriod] = field(default_factory=lambda: {action: {} for action in ACTIONS})
    seconds: Mapping[str, ByPeriod] = field(default_factory=lambda: {action: {} for action in ACTIONS})
    tuned: ByPeriod = field(default_factory=dict)
    frozen: ByPeriod = field(default_factory=dict)
    naive: ByPeriod = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        scores: pl.DataFrame,
        diagnostics: Mapping[str, Mapping[str, Mapping[str, Any]]],
        twin: ModelConfig | None = None,
    ) -> Self:
        """From tidy rows and diagnostics (model -> period) of the model, its twin and the naive forecast."""
        own = _rows(scores, model.name)
        other = _rows(scores, twin.name) if twin else own.clear()
        seeds = {*own["seed"]} & {*other["seed"]}
        alike = own.filter(pl.col("seed").is_in(list(seeds))) if seeds else own
        other = other.filter(pl.col("seed").is_in(list(seeds)))
        errors = {NOTHING: _frozen(alike), PROMPTS_ONLY: _tuned(alike), RETRAINED: _tuned(other)}
        table = costs(diagnostics)
        taken = {
            name: dict(table.filter(pl.col("model") == name).select("period", "seconds").iter_rows())
            for name in (model.name, *([twin.name] if twin else []))
        }
        seconds = {
            NOTHING: dict.fromkeys(errors[NOTHING], 0.0),
            PROMPTS_ONLY: taken[model.name],
            RETRAINED: taken[twin.name] if twin else {},
        }
        return cls(errors, seconds, _tuned(own), _frozen(own), baseline_errors(scores, protocol=model.protocol))

    def before(self, period: str) -> Outcomes:
        """What was known before a period."""

        def earlier(values: ByPeriod) -> ByPeriod:
            return {key: value for key, value in values.items() if key < period}

        errors, seconds = ({a: earlier(v) for a, v in part.items()} for part in (self.errors, self.seconds))
        return Outcomes(errors, seconds, earlier(self.tuned), earlier(self.frozen), earlier(self.naive))

    def usual(self, period: str) -> float | None:
        """Error of the model right after learning a period, in shares of the weekly naive forecast's."""
        tuned, naive = self.tuned.get(period), self.naive.get(period)
        return tuned / naive if tuned is not None and naive else None

    def arrived(self, period: str) -> float | None:
        """Error on a period of the model before it, in shares of the weekly naive forecast's."""
        frozen, naive = self.frozen.get(period), self.naive.get(period)
        return frozen / naive if frozen is not None and naive else None

    @property
    def retrain_gains(self) -> ByPeriod:
        """Percent of error that training anew took off, against tuning; the first period is no such case."""
        tuned, again = self.errors[PROMPTS_ONLY], self.errors[RETRAINED]
        return {key: 100 * (1 - again[key] / tuned[key]) for key in _later(again.keys() & tuned.keys(), self.tuned)}

    def predicted_seconds(self) -> dict[str, tuple[float | None, str]]:
        """Action -> seconds that it will take, and what that is taken from."""
        own, again = self.seconds[PROMPTS_ONLY], self.seconds[RETRAINED]
        found: dict[str, tuple[float | None, str]] = {NOTHING: (0.0, "nothing is trained")}
        later = [own[key] for key in _later(own, own)]
        found[PROMPTS_ONLY] = _median(later, "tuning")
        if anew := [again[key] for key in _later(again, again)]:
            found[RETRAINED] = _median(anew, "retraining")
        elif own:
            found[RETRAINED] = (own[min(own)], "the first period, which is trained from scratch")
        else:
            found[RETRAINED] = (None, "no earlier period is known")
        return found


def _median(seconds: list[float], what: str) -> tuple[float | None, str]:
    if not seconds:
        return None, f"no earlier {what} is known"
    return float(median(seconds)), f"median of {len(seconds)} earlier {what}{'s' if len(seconds) > 1 else ''}"


def _later(periods: Collection[str], known: Collection[str]) -> list[str]:
    """Those after the first that is known, in order."""
    return sorted(key for key in periods if key > min(known)) if known else []


def _rows(scores: pl.DataFrame, model: str) -> pl.DataFrame:
    """Mean absolute errors of a model over all sensors that were scored."""
    return scores.filter(
        (pl.col("model") == model)
        & (pl.col("metric") == "mae")
        & (pl.col("horizon") == PUBLISHED)
        & (pl.col("cohort") == "all")
        & pl.col("value").is_not_null()
    )


def _tuned(rows: pl.DataFrame) -> ByPeriod:
    return _means(rows.filter(pl.col("trained_through") == pl.col("period")))


def _frozen(rows: pl.DataFrame) -> ByPeriod:
    return _means(rows.filter(pl.col("trained_through") < pl.col("period")))


def _means(rows: pl.DataFrame) -> ByPeriod:
    return dict(over_seeds(rows).select("period", "value").sort("period").iter_rows())


def mean_gain(gains: Mapping[str, float]) -> float | None:
    """Mean of percentages; None of none."""
    return fmean(gains.values()) if gains else None
