"""The advice of past periods beside what was best in hindsight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import Any

from scipy.stats import binomtest

from st_pipeline.evaluation.actions import Outcomes
from st_pipeline.evaluation.advice_rule import ACTIONS, DEFAULT, Signals, Thresholds, decide

ADVICE, HINDSIGHT = "advice", "hindsight"
LEVEL = 0.95
GROWTH = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of new sensors that `calibrated` tries
ERROR = (2.0, 5.0, 10.0, 20.0, 50.0)  # percentages lost that it tries


@dataclass(frozen=True)
class Case:
    """A period: what was known before its training, and what each action brought and took.

    Attributes:
        errors, seconds: by action, those that are known.
    """

    period: str
    signals: Signals
    errors: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def actions(self) -> list[str]:
        """Those whose error and cost are known, cheapest first."""
        known = [action for action in ACTIONS if action in self.errors and action in self.seconds]
        return sorted(known, key=lambda action: self.seconds[action])

    def best(self, tolerance: float) -> str:
        """The cheapest action whose error is within `tolerance` percent of the least."""
        least = min(self.errors[action] for action in self.actions)
        return next(action for action in self.actions if self.errors[action] <= least * (1 + tolerance / 100))

    def regret(self, action: str) -> float:
        """Error above the least one, in the unit of the readings."""
        return self.errors[action] - min(self.errors[known] for known in self.actions)


def cases(documents: Iterable[Mapping[str, Any]], outcomes: Outcomes) -> list[Case]:
    """One of each advice whose period has known outcomes of at least doing nothing and tuning.

    Args:
        documents: of `advise`, by any order of periods.
    """
    found = []
    for document in sorted(documents, key=lambda document: str(document["period"])):
        key = document["period"]
        errors, seconds = (
            {action: by_period[key] for action, by_period in part.items() if key in by_period}
            for part in (outcomes.errors, outcomes.seconds)
        )
        case = Case(key, Signals(**document["signals"]), errors, seconds)
        if set(ACTIONS[:2]) <= set(case.actions):
            found.append(case)
    return found


def replay(found: Sequence[Case], limits: Thresholds = DEFAULT) -> dict[str, Any]:
    """How the advice fared, beside always doing the same and hindsight, as JSON can hold it.

    `periods` has a row a case; `policies` one for each way to choose, with mean regret and summed seconds over the
    same cases, None where an action of it is not known in all. A case whose advice has no known outcome is `unjudged`.
    """
    rows = [_row(case, limits) for case in found]
    judged = [(case, row) for case, row in zip(found, rows, strict=True) if row["advice"] in case.actions]
    chosen = {
        ADVICE: [(case, row["advice"]) for case, row in judged],
        **{f"always {action}": [(case, action) for case, _ in judged] for action in ACTIONS},
        HINDSIGHT: [(case, row["best"]) for case, row in judged],
    }
    matches = sum(row["match"] for _, row in judged)
    return {
        "periods": rows,
        "policies": [_policy(name, picks, limits) for name, picks in chosen.items()] if judged else [],
        "matches": matches,
        "judged": len(judged),
        "unjudged": len(rows) - len(judged),
        "interval": _interval(matches, len(judged)),
        "unknown": [action for action in ACTIONS if not any(action in case.actions for case in found)],
        "tolerance": limits.tolerance,
    }


def _row(case: Case, limits: Thresholds) -> dict[str, Any]:
    advice, _ = decide(case.signals, limits)
    best = case.best(limits.tolerance)
    return {
        "period": case.period,
        "advice": advice,
        "best": best,
        "match": advice == best,
        **{f"error_{action}": case.errors.get(action) for action in ACTIONS},
        **{f"seconds_{action}": case.seconds.get(action) for action in ACTIONS},
        "regret": case.regret(advice) if advice in case.actions else None,
    }


def _policy(name: str, picks: Sequence[tuple[Case, str]], limits: Thresholds) -> dict[str, Any]:
    """Matches, cases with an error near the least, mean regret, its percentage, and seconds of one way to choose."""
    if any(action not in case.actions for case, action in picks):
        return {"policy": name, **dict.fromkeys(("matches", "near", "regret", "regret_percent", "seconds"))}
    regrets = [case.regret(action) for case, action in picks]
    least = [case.errors[action] - regret for (case, action), regret in zip(picks, regrets, strict=True)]
    return {
        "policy": name,
        "matches": sum(action == case.best(limits.tolerance) for case, action in picks),
        "near": sum(100 * lost <= limits.tolerance * error for lost, error in zip(regrets, least, strict=True)),
        "regret": fmean(regrets),
        "regret_percent": 100 * sum(regrets) / sum(least),
        "seconds": sum(case.seconds[action] for case, action in picks),
    }


def _interval(matches: int, count: int) -> list[float] | None:
    """Wilson's interval of a share."""
    if not count:
        return None
    found = binomtest(matches, count).proportion_ci(LEVEL, method="wilson")
    return [float(found.low), float(found.high)]


def calibrated(found: Sequence[Case], limits: Thresholds = DEFAULT) -> Thresholds:
    """The limits of growth and error, of a small grid, with most matches on these cases; of equals the least regret,
    then the largest limits, which ask for least."""
    tried = [replace(limits, growth=growth, error=error) for growth, error in product(GROWTH, ERROR)]

    def merit(one: Thresholds) -> tuple[int, float, float, float]:
        picks = [(case, decide(case.signals, one)[0]) for case in found]
        known = [(case, action) for case, action in picks if action in case.actions]
        matches = sum(action == case.best(one.tolerance) for case, action in known)
        return matches, -sum(case.regret(action) for case, action in known), one.growth, one.error

    return max(tried, key=merit)
