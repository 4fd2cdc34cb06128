"""Which models are better than a reference, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError, closest
from st_pipeline.evaluation.bootstrap import Array, Pairs, block_bootstrap, block_length
from st_pipeline.evaluation.losses import LOSSES, incomparable, mean_over_seeds, newest, require_comparable
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.significance import diebold_mariano, holm

COMPARISON = {
    "model": pl.String,
    "reference": pl.String,
    "horizon": pl.String,
    "difference": pl.Float64,  # model minus reference, units of the mean absolute error: negative is better
    "low": pl.Float64,
    "high": pl.Float64,
    "relative": pl.Float64,  # percent of the reference's error
    "relative_low": pl.Float64,
    "relative_high": pl.Float64,
    "p_bootstrap": pl.Float64,
    "p_dm": pl.Float64,
    "p_holm": pl.Float64,
    "mark": pl.String,
    "windows": pl.Int64,
    "blocks": pl.Float64,  # that the bootstrap draws from
}
BETTER, WORSE, LEVEL = "better", "worse", "level"
NONZERO = ("absolute_nonzero", "cells_nonzero")
STEPS = (3, 6, 12)
HORIZONS = (*STEPS, PUBLISHED)


def compare(
    losses: pl.DataFrame,
    *,
    reference: str | Sequence[tuple[str, str]],
    horizons: Sequence[int | str] = HORIZONS,
    day_steps: int | None = None,
    seed: int,
    repeats: int = 2000,
    level: float = 0.95,
) -> pl.DataFrame:
    """Every other model of a stream against the reference, or chosen pairs (model, reference): columns `COMPARISON`.

    Errors are means over the periods of each period's mean absolute error, of the losses' mean over seeds, as on the
    leaderboard. `low` and `high` come from the block bootstrap. A mark other than `level` takes both tests: Holm's
    method over the pairs of a horizon adjusts the larger of `p_bootstrap` and `p_dm`.

    Args:
        horizons: a step h or `at:h`, `upto:h`, or `published_average`.
        day_steps: steps of a day; blocks are then whole days.

    Raises:
        InputError: a model or step is unknown, or rows may not be compared (`require_comparable`).
    """
    steps, pairs = _comparable_steps(losses, reference)
    rows: list[dict[str, Any]] = []
    for label in (f"at:{name}" if isinstance(name, int) else name for name in horizons):
        found = []
        for model, other in pairs:
            series = _series(steps[model], steps[other], label)
            tests = _tests(series, day_steps=day_steps, seed=seed, repeats=repeats, level=level)
            found.append({"model": model, "reference": other, "horizon": label, **tests})
        adjusted = holm([max(row["p_bootstrap"], row["p_dm"]) for row in found])
        for row, p_value in zip(found, adjusted, strict=True):
            sure = p_value < 1 - level
            mark = LEVEL if not sure else BETTER if row["difference"] < 0 else WORSE
            rows.append({**row, "p_holm": float(p_value), "mark": mark})
    return pl.DataFrame(rows, schema=COMPARISON)


def compare_with_champion(
    config: StreamConfig, losses: Mapping[str, Mapping[str, pl.DataFrame]], *, seed: int = 0
) -> pl.DataFrame:
    """The champion's `compare` with every model that it may be compared with; models without losses are left out.

    Args:
        losses: model -> period -> the stored losses.

    Raises:
        InputError: there are no losses of the champion.
    """
    frames = [newest(frame) for by_period in losses.values() for frame in by_period.values()]
    every = pl.concat(frames) if frames else pl.DataFrame(schema=LOSSES)
    champion = config.shown_model
    (group, *_) = [names for names in comparable_groups(every) if champion in names] or [()]
    if not group:
        raise InputError(
            f"{config.name}/{champion}: there are no losses to compare with; "
            f"materialise {config.name}/{champion}/losses first"
        )
    steps = sorted({min(step, config.horizon) for step in STEPS})
    return compare(
        every.filter(pl.col("model").is_in(group)),
        reference=champion,
        horizons=(*steps, PUBLISHED),
        day_steps=config.steps_per_day,
        seed=seed,
    )


def _comparable_steps(
    losses: pl.DataFrame, reference: str | Sequence[tuple[str, str]]
) -> tuple[dict[str, list[Array]], Sequence[tuple[str, str]]]:
    """Loss sums of the models in the pairs, and the pairs; refuses what may not be compared."""
    own = {name: frame for (name,), frame in mean_over_seeds(losses).group_by("model", maintain_order=True)}
    pairs = [(name, reference) for name in own if name != reference] if isinstance(reference, str) else reference
    asked = {name for pair in pairs for name in pair} | ({reference} if isinstance(reference, str) else set())
    for name in sorted(asked):
        if name not in own:
            raise InputError(f"There are no losses of model {name!r}; {closest(name, own)}")
    for pair in pairs:
        require_comparable(*(own[name] for name in pair))
    return {name: list(loss_arrays(own[name]).values()) for name in sorted(asked)}, pairs


def comparable_groups(losses: pl.DataFrame) -> list[tuple[str, ...]]:
    """Models that may be compared with each other, in groups, in the order of their first rows."""
    means = mean_over_seeds(losses)
    groups: list[list[str]] = []
    for model in losses["model"].unique(maintain_order=True).to_list():
        own = means.filter(pl.col("model") == model)
        for group in groups:
            if incomparable(means.filter(pl.col("model") == group[0]), own) is None:
                group.append(model)
                break
        else:
            groups.append([model])
    return [tuple(group) for group in groups]


class _Series(NamedTuple):
    """Loss sums of a pair of models, a `Pairs` per period, and the steps by which windows share what they measure."""

    pairs: list[Pairs]
    horizon: int


def loss_arrays(losses: pl.DataFrame) -> dict[str, Array]:
    """Loss sums (4, windows, H) of one model by period, ascending, from `mean_over_seeds`.

    Along the first axis: absolute, cells, absolute_nonzero, cells_nonzero.

    Raises:
        InputError: a window lacks a step.
    """
    found = {}
    for own in losses.sort("period", "issued_at", "horizon").partition_by("period", maintain_order=True):
        last = int(own["horizon"].max())  # type: ignore[arg-type]
        windows = own["issued_at"].n_unique()
        period = own["period"][0]
        if own["horizon"].to_list() != list(range(1, last + 1)) * windows:
            raise InputError(
                f"Losses of model {own['model'][0]!r} in period {period} lack steps of some windows; "
                f"expected the steps 1 to {last} of each of {windows} windows."
            )
        sums = own.select("absolute", "cells", *NONZERO).cast(pl.Float64).to_numpy()
        found[period] = sums.T.reshape(4, windows, last)
    return found


def at_horizon(sums: Array, label: str) -> tuple[Array, Array]:
    """Absolute losses and cells (windows, K) at a horizon, from (4, windows, H); the error is the mean of K ratios.

    The published average is the mean over h of the error over steps 1..h (EAC's code).

    Raises:
        InputError: there is no such horizon.
    """
    last = sums.shape[-1]
    known = [PUBLISHED, *(f"{kind}:{step}" for kind in ("at", "upto") for step in range(1, last + 1))]
    if label not in known:
        raise InputError(f"The horizon {label!r} is not one of forecasts of {last} steps; {closest(label, known)}")
    kind, _, step = label.partition(":")
    if kind == PUBLISHED:
        absolute, cells = sums[2:].cumsum(axis=-1)
    elif kind == "upto":
        absolute, cells = sums[:2, :, : int(step)].sum(axis=-1, keepdims=True)
    else:
        absolute, cells = sums[:2, :, int(step) - 1, None]
    return absolute, cells


def _series(model: list[Array], reference: list[Array], label: str) -> _Series:
    """Loss sums of both models at a horizon."""
    pairs = []
    for one, other in zip(model, reference, strict=True):
        (first, cells), (second, _) = at_horizon(one, label), at_horizon(other, label)
        pairs.append(Pairs(first, second, cells))
    return _Series(pairs, steps_ahead(label, model[0].shape[-1]))


def steps_ahead(label: str, last: int) -> int:
    """The last step that a horizon takes in, of `last` steps."""
    _, _, step = label.partition(":")
    return int(step or last)


def _tests(series: _Series, *, day_steps: int | None, level: float, **draws: int) -> dict[str, Any]:
    """Both tests of one pair of models at one horizon."""
    pairs, horizon = series
    lengths = [len(period.first) for period in pairs]
    block = block_length(lengths, horizon=horizon, day_steps=day_steps)
    found = block_bootstrap(pairs, block=block, level=level, average="periods", **draws)
    relative = found.relative
    return {
        "difference": found.difference.estimate,
        "low": found.difference.low,
        "high": found.difference.high,
        "relative": relative and relative.estimate,
        "relative_low": relative and relative.low,
        "relative_high": relative and relative.high,
        "p_bootstrap": found.difference.p_value,
        "p_dm": diebold_mariano(_differentials(pairs), horizon=horizon).p_value,
        "windows": sum(lengths),
        "blocks": found.blocks,
    }


def _differentials(pairs: Sequence[Pairs]) -> list[Array]:
    """Loss differentials (n,) per period, scaled so that the mean of all is the difference of the errors."""
    windows = sum(len(period.first) for period in pairs)
    scales = [windows / (len(pairs) * len(period.first)) for period in pairs]
    return [
        scale * ((period.first - period.second) / period.cells.mean(axis=0)).mean(axis=1)
        for scale, period in zip(scales, pairs, strict=True)
    ]
