"""The rule that says what to do with a period before anything is trained on it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NOTHING, PROMPTS_ONLY, RETRAINED = "nothing", "prompts_only", "retrain"
ACTIONS = (NOTHING, PROMPTS_ONLY, RETRAINED)  # each does more than the one before


class Reason(NamedTuple):
    """A sentence, and the least that it asks for."""

    action: str
    text: str


@dataclass(frozen=True)
class Thresholds:
    """From where on each signal asks for something.

    `growth` and `error` are those that a grid found on the stream `melbourne` (docs/advice.md); the others were set
    beforehand, since nothing there comes near them.
    """

    growth: float = 0.02  # share of the sensors that are new or back
    error: float = 50.0  # percent by which the frozen model lost ground
    shifted: float = 0.5  # share of the compared sensors whose distribution shifted
    broken: float = 0.5  # median change of the weekly profiles, in deviations
    tolerance: float = 2.0  # percent of error that is no difference


DEFAULT = Thresholds()


@dataclass(frozen=True)
class Signals:
    """What is known of a period before training.

    Attributes:
        nodes, new: sensors, and those of them that are new or back.
        compared, shifted: sensors that can be compared with the period before, and those whose distribution shifted.
        profile: median change of their weekly profiles, in deviations.
        error: percent by which the frozen model's error, in shares of the weekly naive forecast's, is above that after
            its last update.
        gain: percent of error that training anew took off in earlier periods, against tuning, on average.
        gains: how many periods those are.
        first: there is no period before.
    """

    nodes: int
    new: int
    compared: int = 0
    shifted: int = 0
    profile: float | None = None
    error: float | None = None
    gain: float | None = None
    gains: int = 0
    first: bool = False


def decide(signals: Signals, limits: Thresholds = DEFAULT) -> tuple[str, tuple[Reason, ...]]:
    """The action that the strongest reason asks for, and the reasons, those for more first.

    1. The usual week of half the sensors changed by `broken` deviations or more, as a change of unit does: retrain.
    2. A share `growth` of the sensors is new or back, or a share `shifted` of the others changed its distribution, or
       the frozen model lost `error` percent against the weekly naive forecast: at least prompts only.
    3. Something is to be done, and in earlier periods training anew was better by more than `tolerance`: retrain.
    4. Nothing of this: nothing.
    """
    if signals.first:
        return RETRAINED, (Reason(RETRAINED, "It is the first period: there is no model yet, all of it is trained."),)
    reasons = [reason for reason in (_broken(signals, limits), *_prompts(signals, limits)) if reason]
    if reasons and signals.gain is not None and signals.gain > limits.tolerance:
        reasons.append(_gain(signals, limits))
    if not reasons:
        return NOTHING, _quiet(signals, limits)
    reasons.sort(key=lambda reason: -ACTIONS.index(reason.action))
    return reasons[0].action, tuple(reasons)


def _broken(signals: Signals, limits: Thresholds) -> Reason | None:
    if signals.profile is None or signals.profile < limits.broken:
        return None
    return Reason(
        RETRAINED,
        f"The usual week of half of the {signals.compared} compared sensors changed by {signals.profile:.2f} of their "
        f"deviations or more (limit {limits.broken:g}), as a change of unit or of the whole network does.",
    )


def _prompts(signals: Signals, limits: Thresholds) -> list[Reason]:
    """Reasons for prompts at least."""
    found = []
    if signals.new and signals.new >= limits.growth * signals.nodes:
        found.append(f"{_share(signals.new, signals.nodes, 'sensors')} are new or back (limit {limits.growth:.0%}).")
    if signals.compared and signals.shifted >= limits.shifted * signals.compared:
        shifted = _share(signals.shifted, signals.compared, "compared sensors")
        found.append(f"{shifted} changed their distribution (limit {limits.shifted:.0%}).")
    if signals.error is not None and signals.error >= limits.error:
        found.append(
            f"The frozen model lost {signals.error:.0f} % against the weekly naive forecast since its last update "
            f"(limit {limits.error:g} %)."
        )
    return [Reason(PROMPTS_ONLY, text) for text in found]


def _gain(signals: Signals, limits: Thresholds) -> Reason:
    return Reason(
        RETRAINED,
        f"Training anew had {signals.gain:.1f} % less error than tuning, on average over {signals.gains} earlier "
        f"period{'s' if signals.gains > 1 else ''} (limit {limits.tolerance:g} %).",
    )


def _quiet(signals: Signals, limits: Thresholds) -> tuple[Reason, ...]:
    """Why nothing is to be done."""
    texts = [f"{_share(signals.new, signals.nodes, 'sensors')} are new or back (limit {limits.growth:.0%})."]
    if signals.compared:
        shifted = _share(signals.shifted, signals.compared, "compared sensors")
        texts.append(f"{shifted} changed their distribution (limit {limits.shifted:.0%}).")
    if signals.error is not None:
        change = f"lost {signals.error:.0f} %" if signals.error > 0 else f"gained {-signals.error:.0f} %"
        texts.append(f"The frozen model {change} against the weekly naive forecast (limit {limits.error:g} % lost).")
    return tuple(Reason(NOTHING, text) for text in texts)


def _share(part: int, whole: int, what: str) -> str:
    return f"{part} of {whole} {what}"
