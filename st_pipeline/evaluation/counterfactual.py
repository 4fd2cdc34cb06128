"""The counterfactual of a cost ledger: what training a model anew in every period would have taken and brought."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.comparison import compare
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.model_config import ModelConfig

RETRAIN = "retrain"  # the strategy that tuning is measured by
SAME_TIME = 0.5  # percent; a smaller difference between two trainings' time is none
MANIFOLD = -100.0  # percent saved, from which on down the time is told as a multiple
FIELDS = ("backbone", "prompt_pool", "lora", "relearner", "seasonal", "seasonal_skip", "scaling", "training")


@dataclass(frozen=True)
class Counterfactual:
    """What updating a model took and brought in the periods after the first, against training it anew each time."""

    champion: str
    retrained: str
    periods: int
    seconds: float
    retrained_seconds: float
    error: float  # percent of the retrained model's MAE: negative is better
    low: float | None = None
    high: float | None = None
    apart: tuple[str, ...] = ()  # in what the two differ beside the strategy

    @property
    def saved(self) -> float:
        """Percent of the retrained model's seconds; negative where the champion took longer."""
        return 100 * (1 - self.seconds / self.retrained_seconds)

    @property
    def sentence(self) -> str:
        """All of it in plain words."""
        apart = f" The two also differ in {', '.join(self.apart)}." if self.apart else ""
        when = f"the {self.periods} periods" if self.periods > 1 else "the period"
        took = f"{_shown(self.seconds)} s instead of {_shown(self.retrained_seconds)} s"
        return (
            f"Tuning instead of retraining ({self.champion} against {self.retrained}) {self._time()} "
            f"in {when} after the first ({took}) {self._error()}.{apart}"
        )

    def _time(self) -> str:
        if abs(self.saved) < SAME_TIME:
            return "took the same time"
        if self.saved <= MANIFOLD:
            return f"took {self.seconds / self.retrained_seconds:.1f} times the time"
        return f"saved {self.saved:.0f} % of the time" if self.saved > 0 else f"cost {-self.saved:.0f} % more time"

    def _error(self) -> str:
        change = f"{self.error:+.1f} % MAE"
        if self.low is None or self.high is None:
            return f"at {change}"
        sure = "lower" if self.high < 0 else "higher" if self.low > 0 else ""
        verdict = f"at a {sure} error" if sure else "with no clear difference in error"
        return f"{verdict}: {change} (95 % interval {self.low:+.1f} to {self.high:+.1f} %)"


def _shown(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def retrained_model(config: StreamConfig, known: Collection[str]) -> str | None:
    """The champion's counterpart among the known models: trained anew in every period, under the same protocol.

    Of several the one most like the champion. None where there is none, or the champion itself is retrained.
    """
    models = {model.name: model for model in (*config.models, *config.compared)}
    own = models.get(config.shown_model)
    if own is None or own.strategy.name == RETRAIN:
        return None
    found = [
        model
        for model in models.values()
        if model.name in known and model.strategy.name == RETRAIN and model.protocol == own.protocol
    ]
    return min(found, key=lambda model: len(_apart(own, model))).name if found else None


def _apart(model: ModelConfig, other: ModelConfig) -> tuple[str, ...]:
    """Fields in which two models differ, but for their strategies and seeds."""
    return tuple(name.replace("_", " ") for name in FIELDS if getattr(model, name) != getattr(other, name))


def counterfactual(
    config: StreamConfig,
    rows: pl.DataFrame,
    *,
    retrained: str,
    losses: pl.DataFrame | None = None,
    seed: int = 0,
) -> Counterfactual | None:
    """The champion against a retrained model, over the later periods that both have on the same device.

    The first period is left out: both train it from scratch. None where no period is left.

    Args:
        rows: of `ledger`.
        losses: of both models, right after learning each period; the interval is known where they cover the periods.

    Raises:
        InputError: the losses may not be compared, or are too few for an interval.
    """
    pair = (config.shown_model, retrained)
    scored = rows.filter(pl.col("mae").is_not_null())
    own, other = (scored.filter(pl.col("model") == name) for name in pair)
    both = own.join(other, on=["period", "device"], suffix="_retrained")
    both = both.filter(pl.col("period") != rows["period"].min())
    total = both.select("seconds", "seconds_retrained", "mae", "mae_retrained").sum().row(0, named=True)
    if not total["seconds_retrained"] or not total["mae_retrained"]:
        return None
    low, high = None, None
    if losses is not None:
        used = losses.filter(pl.col("model").is_in(pair) & pl.col("period").is_in(both["period"].implode()))
        if used.select("model", "period").n_unique() == 2 * len(both):
            steps = config.steps_per_day
            test = compare(used, reference=[pair], horizons=(PUBLISHED,), day_steps=steps, seed=seed)
            low, high = test.select("relative_low", "relative_high").row(0)
    error = 100 * (total["mae"] / total["mae_retrained"] - 1)
    seconds = total["seconds"], total["seconds_retrained"]
    apart = _apart(*(config.model(name) for name in pair))
    return Counterfactual(*pair, len(both), *seconds, error, low, high, apart)
