"""How a challenger stands against the champion on the same periods, and the rule that it must meet to replace it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from st_pipeline.evaluation.comparison import BETTER, at_horizon, compare, loss_arrays
from st_pipeline.evaluation.losses import mean_over_seeds, newest, require_comparable
from st_pipeline.evaluation.rows import PUBLISHED

MARGIN = 1.0  # percent of the champion's error, by which a challenger must be below it
PERIODS = 2  # newest ones in a row, in each of which it must be
LEVEL = 0.95  # of the tests over these periods together
TESTED = ("relative", "relative_low", "relative_high", "p_bootstrap", "p_dm", "p_holm", "mark")


@dataclass(frozen=True)
class Standing:
    """A challenger against the champion, by the published average of the absolute error.

    Attributes:
        relative: period -> percent of the champion's error, negative is better; the periods that both have learned.
        tested: both paired tests over the last `PERIODS` of the champion's periods; None where they were not made.
        last: those `PERIODS`.
        refusal: why the rule is not met, with the numbers; empty where it is.
    """

    model: str
    champion: str
    relative: dict[str, float | None]
    tested: dict[str, Any] | None
    last: tuple[str, ...]
    refusal: str

    def document(self) -> dict[str, Any]:
        """Everything as JSON can hold it, with the rule."""
        return {**vars(self), "rule": {"margin_percent": MARGIN, "periods": PERIODS, "level": LEVEL}}


def standing(
    champion: Mapping[str, pl.DataFrame],
    challenger: Mapping[str, pl.DataFrame],
    *,
    names: tuple[str, str],
    day_steps: int,
    seed: int = 0,
) -> Standing:
    """Hold a challenger against the champion in every period that both were scored in.

    The rule (hysteresis): in each of the champion's last `PERIODS` periods the challenger's error is at least `MARGIN`
    percent below the champion's, and over these periods together `compare` marks it `better`.

    Args:
        champion, challenger: period -> stored losses.
        names: of the champion and of the challenger.

    Raises:
        InputError: losses may not be compared (`require_comparable`).
    """
    relative = {key: _relative(champion[key], challenger[key]) for key in sorted({*champion} & {*challenger})}
    last = sorted(champion)[-PERIODS:]
    refusal = _too_few(names, sorted(champion), [key for key in last if key not in relative])
    tested = None
    if not refusal:
        losses = pl.concat([newest(frames[key]) for frames in (champion, challenger) for key in last])
        (found,) = compare(
            losses, reference=names[0], horizons=(PUBLISHED,), day_steps=day_steps, seed=seed, level=LEVEL
        ).to_dicts()
        tested = {name: found[name] for name in TESTED}
        refusal = _too_little(names, {key: relative[key] for key in last}) or _unsure(names, last, tested)
    return Standing(names[1], names[0], relative, tested, tuple(last), refusal)


def _relative(champion: pl.DataFrame, challenger: pl.DataFrame) -> float | None:
    """Percent by which the challenger's error in one period differs; None where the champion makes none."""
    one, other = (mean_over_seeds(newest(frame)) for frame in (champion, challenger))
    require_comparable(one, other)
    errors = []
    for frame in (one, other):
        (sums,) = loss_arrays(frame).values()
        absolute, cells = at_horizon(sums, PUBLISHED)
        errors.append(float((absolute.sum(axis=0) / cells.sum(axis=0)).mean()))
    return 100 * (errors[1] / errors[0] - 1) if errors[0] else None


def _too_few(names: tuple[str, str], known: list[str], missing: list[str]) -> str:
    champion, model = names
    if len(known) < PERIODS:
        return (
            f"{model}: a promotion needs {PERIODS} scored periods of the champion {champion}, found "
            f"{', '.join(known) or 'none'}"
        )
    return (
        f"{model} has no losses of {', '.join(missing)}, which the champion {champion} has; bring it up to date first"
        if missing
        else ""
    )


def _too_little(names: tuple[str, str], relative: Mapping[str, float | None]) -> str:
    if all(value is not None and value <= -MARGIN for value in relative.values()):
        return ""
    found = ", ".join(f"{key} {'-' if value is None else f'{value:+.2f} %'}" for key, value in relative.items())
    champion, model = names
    return (
        f"{model} is not at least {MARGIN:g} % below the champion {champion} in each of the last {PERIODS} periods: "
        f"{found}"
    )


def _unsure(names: tuple[str, str], periods: list[str], tested: Mapping[str, Any]) -> str:
    if tested["mark"] == BETTER:
        return ""
    champion, model = names
    return (
        f"{model} against the champion {champion} over {', '.join(periods)}: {tested['relative']:+.2f} % "
        f"({tested['relative_low']:+.2f} to {tested['relative_high']:+.2f}), p = {tested['p_holm']:.3g}, "
        f"expected below {1 - LEVEL:.2g}: it could be chance"
    )
