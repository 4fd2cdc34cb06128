"""What a model forgot, carried over and could still learn: per horizon and cohort, with intervals for all sensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.evaluation.bootstrap import Array, Interval, block_length, bootstrap_interval
from st_pipeline.evaluation.comparison import STEPS, at_horizon, loss_arrays, steps_ahead
from st_pipeline.evaluation.losses import incomparable, mean_over_seeds, newest
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import PUBLISHED, over_seeds

BASELINE = "naive_weekly"  # of forward transfer: it learns nothing
Measure = Callable[[PeriodMatrix, Mapping[str, float]], float | None]
MEASURES: dict[str, Measure] = {
    "forgetting": lambda matrix, _: matrix.forgetting,
    "backward_transfer": lambda matrix, _: matrix.backward_transfer,
    "forward_transfer": lambda matrix, baseline: matrix.forward_transfer(baseline),
    "plasticity": lambda matrix, _: matrix.plasticity,
}
TRANSFER = {
    "model": pl.String,
    "protocol": pl.String,
    "horizon": pl.String,
    "cohort": pl.String,
    "measure": pl.String,
    "value": pl.Float64,  # units of the mean absolute error; above zero is worse, but for plasticity
    "low": pl.Float64,
    "high": pl.Float64,
}
UNTRAINED = ""  # trained through no period: the baseline's row, ahead of all others


def horizon_labels(horizon: int) -> tuple[str, ...]:
    """The steps that papers report, of those a forecast of `horizon` steps has, and the published average."""
    return (*(f"at:{step}" for step in sorted({min(step, horizon) for step in STEPS})), PUBLISHED)


def measures(matrix: PeriodMatrix, baseline: Mapping[str, float]) -> dict[str, float | None]:
    """`MEASURES` of one period matrix; None where no entry says anything.

    Args:
        baseline: error by period of a forecast that learns nothing.
    """
    return {name: measure(matrix, baseline) for name, measure in MEASURES.items()}


def baseline_errors(
    scores: pl.DataFrame, *, protocol: str, horizon: str = PUBLISHED, cohort: str = "all"
) -> dict[str, float]:
    """Error of the weekly naive forecast by period; none of a protocol that it is not scored under."""
    rows = over_seeds(
        scores.filter(
            (pl.col("model") == BASELINE)
            & (pl.col("protocol") == protocol)
            & (pl.col("metric") == "mae")
            & (pl.col("horizon") == horizon)
            & (pl.col("cohort") == cohort)
            & pl.col("value").is_not_null()
        )
    )
    return dict(rows.select("period", "value").iter_rows())


def transfer_table(
    scores: pl.DataFrame,
    losses: pl.DataFrame | None = None,
    *,
    horizons: Sequence[str],
    day_steps: int | None = None,
    seed: int = 0,
    repeats: int = 2000,
    level: float = 0.95,
) -> pl.DataFrame:
    """`MEASURES` of every model, horizon and cohort, those that are known: columns `TRANSFER`.

    Cohorts are `all` and the birth periods of the sensors. Naive forecasts have no rows: they learn nothing.

    Args:
        scores: tidy rows, those of the weekly naive forecast among them where forward transfer is wanted.
        losses: columns `LOSSES` and `trained_through`; models that have any get intervals for cohort `all`.
        horizons: `at:h`, `upto:h` or `published_average`.
        day_steps: steps of a day; blocks are then whole days.

    Raises:
        InputError: losses lack a step or an entry that the scores have, are too few, or no horizon is called so.
    """
    rows: list[dict[str, Any]] = []
    options: dict[str, Any] = {"day_steps": day_steps, "seed": seed, "repeats": repeats, "level": level}
    for (model, protocol), own in scores.group_by("model", "protocol", maintain_order=True):
        entries = _Losses.of(losses, str(model))
        cohorts = sorted(own["cohort"].unique(), key=lambda name: (name != "all", name))
        for horizon, cohort in product(horizons, cohorts):
            names = {"model": model, "protocol": protocol, "horizon": horizon, "cohort": cohort}
            baseline = baseline_errors(scores, protocol=str(protocol), horizon=horizon, cohort=cohort)
            matrix = PeriodMatrix.of(own, horizon=horizon, cohort=cohort)
            known = {name: value for name, value in measures(matrix, baseline).items() if value is not None}
            for measure, value in known.items():
                sure = entries.interval(measure, matrix, horizon, **options) if entries and cohort == "all" else None
                ends = {"low": sure and sure.low, "high": sure and sure.high}
                rows.append({**names, "measure": measure, "value": value, **ends})
    return pl.DataFrame(rows, schema=TRANSFER)


class _Losses(NamedTuple):
    """Loss sums (4, windows, H) of a model by entry of its period matrix, and of the baseline by period."""

    model: str
    entries: dict[tuple[str, str], Array]
    baseline: dict[str, Array]  # empty where it may not be compared with the model

    @classmethod
    def of(cls, losses: pl.DataFrame | None, model: str) -> _Losses | None:
        """None of a model without losses; several seeds enter with the mean of their sums."""
        if losses is None or not len(own := losses.filter(pl.col("model") == model)):
            return None
        entries = {
            (str(through), period): sums
            for (through,), rows in own.group_by("trained_through", maintain_order=True)
            for period, sums in loss_arrays(mean_over_seeds(rows)).items()
        }
        last = newest(own)
        base = newest(losses).filter((pl.col("model") == BASELINE) & pl.col("period").is_in(last["period"].implode()))
        base, last = mean_over_seeds(base), mean_over_seeds(last)
        return cls(model, entries, loss_arrays(base) if incomparable(last, base) is None else {})

    def interval(
        self, measure: str, matrix: PeriodMatrix, horizon: str, *, day_steps: int | None, **draws: Any
    ) -> Interval | None:
        """Bootstrap interval of a measure of the scores' matrix; None where it takes a baseline that there is not."""
        self._require(matrix)
        used = dict(self.entries)
        if measure == "forward_transfer":
            used |= {(UNTRAINED, period): sums for period, sums in self.baseline.items()}
            if not self.baseline:
                return None
        chosen = {key: at_horizon(sums, horizon) for key, sums in used.items()}
        windows = {period: sums.shape[1] for (_, period), sums in self.entries.items()}
        last = min(sums.shape[2] for sums in self.entries.values())
        periods = tuple(sorted({name for key in self.entries for name in key}))
        count = len(periods)

        def statistic(errors: Array) -> float | None:
            baseline = dict(zip(periods, errors[0, -count:], strict=True))
            return MEASURES[measure](PeriodMatrix(periods, errors[-count:, -count:]), baseline)

        return bootstrap_interval(
            {key: sums for key, (sums, _) in chosen.items()},
            {key: cells for key, (_, cells) in chosen.items()},
            statistic,
            block=block_length(list(windows.values()), horizon=steps_ahead(horizon, last), day_steps=day_steps),
            **draws,
        )

    def _require(self, matrix: PeriodMatrix) -> None:
        """Refuse losses that are not of the entries that the scores have."""
        known = {(matrix.periods[i], matrix.periods[j]) for i, j in np.argwhere(np.isfinite(matrix.errors))}
        if other := sorted(known ^ self.entries.keys()):
            through, period = other[0]
            raise InputError(
                f"Of {self.model!r} trained through {through} and tested on {period} there are scores or losses but "
                "not both; evaluate it anew."
            )
