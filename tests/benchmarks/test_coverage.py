"""The walk through a period learns every truth once, when it is there, and never before a forecast that it is of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.coverage import LEVELS, METHODS, Walk, adaptive, quantiles, rows
from st_pipeline.forecasting.conformal import Residuals

HORIZON, WEEK = 5, 28
COUNT = 9


def residuals(count: int, every: int, seed: int) -> Residuals:
    random = np.random.default_rng(seed)
    step = every * np.arange(count)[:, None] + np.arange(1, HORIZON + 1)
    point = np.full((count, HORIZON, 2), 50.0)
    truth = (50 + 10 * random.normal(size=(step.max() + 1, 2)))[step]
    return Residuals(point, truth, random.random(point.shape) < 0.9, step % WEEK, ("a", "b"))


def walk(every: int, here: Residuals | None = None) -> Walk:
    here = here or residuals(COUNT, every, 1)
    month = np.zeros(here.scored.shape, dtype=bool)
    return Walk("p", residuals(60, 1, 0), here, month[0, 0], month, every, WEEK, 45.0)


class Record:
    """Takes the place of the intervals: what was learned before each forecast."""

    def __init__(self) -> None:
        self.learned: list[list[Any]] = [[]]

    def learn(self, point: Any, slot: Any, truth: Any, scored: Any) -> None:
        self.learned[-1].append((truth.copy(), scored.copy()))

    def quantiles(self, point: Any, slot: Any) -> Any:
        self.learned.append([])
        return np.zeros((*point.shape, len(LEVELS)))


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7])
def test_every_truth_is_learned_once_at_the_forecast_after_it_arrived(every: int) -> None:
    record, found = Record(), walk(every)
    adaptive(record, found)  # type: ignore[arg-type]
    learned = np.zeros((COUNT, HORIZON, 2), dtype=int)
    for now, calls in enumerate(record.learned[:COUNT]):
        for truth, scored in calls:
            (issued,) = [row for row in range(COUNT) if (found.here.truth[row] == truth).all()]
            steps = issued * every + 1 + np.flatnonzero(scored.any(axis=1))
            assert ((steps <= now * every) & (steps > (now - 1) * every)).all()
            learned[issued] += scored
    arrives = np.arange(COUNT)[:, None] * every + np.arange(1, HORIZON + 1)
    due = (arrives <= (COUNT - 1) * every)[..., None]
    assert (learned == (found.here.scored & due)).all()


@pytest.mark.parametrize("every", [1, 3])
def test_no_quantile_depends_on_what_has_not_happened(every: int) -> None:
    here, now = residuals(COUNT, every, 1), 5
    step = every * np.arange(COUNT)[:, None] + np.arange(1, HORIZON + 1)
    changed = np.where((step > now * every)[..., None], 1e6, here.truth)
    other = Residuals(here.point, changed, here.scored, here.slot, here.ids)
    first, second = (quantiles(walk(every, found)) for found in (here, other))
    for name in METHODS:
        assert (first[name][: now + 1] == second[name][: now + 1]).all()
    adaptive_name = METHODS[0]
    assert (first[adaptive_name][now + 2 :] != second[adaptive_name][now + 2 :]).any()


def test_a_row_has_every_method_and_quantiles_are_cut_at_the_minimum() -> None:
    found = walk(1)
    cells = quantiles(found)
    assert all(one.min() >= 45 for one in cells.values())
    table = rows(found, cells)
    assert [line[1] for line in table] == list(METHODS)
    assert all(line[3] == "" and 0 <= float(line[5]) <= 100 for line in table)  # type: ignore[arg-type]
