"""Quantiles hold what they promise: from the start where errors are exchangeable, after a while whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from st_pipeline.evaluation.interval_scores import coverage
from st_pipeline.forecasting.conformal import LEVELS, Intervals, Residuals, split_quantiles

Arrays = NDArray[np.float64]
HORIZON, SENSORS, WEEK = 3, 4, 28
IDS = ("a", "b", "c", "d")
NONE = np.zeros((HORIZON, SENSORS), dtype=bool)


def slots(count: int, first: int = 0) -> NDArray[np.int64]:
    """(S, H) of forecasts issued one a step."""
    return (first + 1 + np.arange(count)[:, None] + np.arange(HORIZON)) % WEEK


def made(
    count: int,
    seed: int,
    *,
    spread: Callable[[Any], Any] = lambda slot: 1.0 + slot % 4,
    size: float = 1.0,
    first: int = 0,
    sensors: int = SENSORS,
) -> Residuals:
    """Forecasts of 10 whose errors are skewed, independent, and as large as time of the week and sensor say."""
    random = np.random.default_rng(seed)
    slot = slots(count, first)
    scale = np.broadcast_to(np.asarray(spread(slot), dtype=float), slot.shape)[..., None]
    own = 1.0 + np.arange(sensors)
    error = size * scale * own * (random.exponential(size=(count, HORIZON, sensors)) - 0.5)
    point = np.full(error.shape, 10.0)
    return Residuals(point, point + error, np.ones(error.shape, dtype=bool), slot, IDS[:sensors])


def nothing(ids: tuple[str, ...] = ()) -> Residuals:
    empty = np.empty((0, HORIZON, len(ids)))
    return Residuals(empty, empty, empty.astype(bool), np.empty((0, HORIZON), dtype=np.int64), ids)


def calibrated(residuals: Residuals, ids: tuple[str, ...] = IDS) -> Intervals:
    return Intervals.calibrate(residuals, ids, slots_per_week=WEEK)


def each(found: Residuals) -> Iterator[tuple[Arrays, NDArray[np.int64], Arrays, NDArray[np.bool_]]]:
    yield from zip(found.point, found.slot, found.truth, found.scored, strict=True)


def followed(intervals: Intervals, found: Residuals, *, learn: bool = True) -> Arrays:
    """(S, H, N, Q): quantiles of each forecast in turn, its truth arriving step by step."""
    quantiles = []
    for now in range(len(found.point)):
        for ahead in range(HORIZON, 0, -1):
            if learn and now >= ahead:
                arrived = NONE.copy()
                arrived[ahead - 1] = found.scored[now - ahead, ahead - 1]
                at = now - ahead
                intervals.learn(found.point[at], found.slot[at], found.truth[at], arrived)
        quantiles.append(intervals.quantiles(found.point[now], found.slot[now]))
    return np.stack(quantiles)


def covered(quantiles: Arrays, found: Residuals, axis: Any = None) -> Arrays:
    return coverage(quantiles[..., 0], quantiles[..., -1], found.truth, found.scored, axis=axis)


def ranks(count: int, level: float) -> tuple[int, int]:
    """floor and ceil of level (n + 1), exact."""
    rank = Fraction(str(level)) * (count + 1)
    return floor(rank), ceil(rank)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)), st.sampled_from(LEVELS))
def test_split_quantiles_are_the_order_statistics_of_the_published_formula(scores: Arrays, level: float) -> None:
    """MAPIE's lower and upper quantile: the floor(a (n + 1))-th and the ceil((1 - a) (n + 1))-th smallest score."""
    low, high = ranks(len(scores), level)
    rank = low if level < 0.5 else high
    (found,) = split_quantiles(scores, np.array([level]))
    if not 1 <= rank <= len(scores):
        assert np.isnan(found)
    elif level == 0.5:
        assert found == pytest.approx((np.sort(scores)[low - 1] + np.sort(scores)[high - 1]) / 2)
    else:
        assert found == np.sort(scores)[rank - 1]


@pytest.mark.parametrize("seed", range(3))
def test_one_sensor_with_errors_alike_has_the_plain_conformal_interval(seed: int) -> None:
    """With one scale for all, whichever block of time it is of, numpy's quantile with n + 1 is all there is."""
    block = np.random.default_rng(seed).gumbel(size=(40, HORIZON, 1))
    error = np.tile(block, (5, 1, 1))
    point = np.full(error.shape, 7.0)
    always = np.zeros(error.shape[:2], dtype=np.int64)
    found = Residuals(point, point + error, np.ones(error.shape, dtype=bool), always, ("a",))
    intervals = Intervals.calibrate(found, ("a",), slots_per_week=1)
    quantiles = intervals.quantiles(point[0], always[0])
    for place, level in ((0, 0.05), (1, 0.1), (5, 0.9), (6, 0.95)):
        rank = ranks(len(error), level)[level > 0.5]
        plain = np.quantile(error[..., 0], (rank - 0.5) / len(error), axis=0, method="inverted_cdf")
        assert quantiles[:, 0, place] == pytest.approx(7.0 + plain)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_exchangeable_errors_lie_below_each_quantile_as_often_as_it_says(seed: int, learn: bool) -> None:
    test = made(500, seed + 100)
    quantiles = followed(calibrated(made(500, seed)), test, learn=learn)
    below = (test.truth[..., None] <= quantiles).mean(axis=(0, 2))  # (H, Q)
    levels = np.array(LEVELS)
    error = np.sqrt(levels * (1 - levels) * 2 / (500 * SENSORS))  # of both samples
    assert (np.abs(below - levels) < 4 * error + 0.005).all()


def test_coverage_returns_after_a_shift_with_learning_and_does_not_without() -> None:
    before, after = made(300, 0), made(900, 1, size=4.0)
    still = covered(followed(calibrated(before), after, learn=False), after, axis=(0, 2))
    late = slice(300, None)
    moved = followed(calibrated(before), after)[late]
    found = coverage(moved[..., 0], moved[..., -1], after.truth[late], after.scored[late], axis=(0, 2))
    assert (still < 0.75).all()
    assert (np.abs(found - 0.9) < 0.03).all()


def test_coverage_by_time_of_the_week_is_closer_than_without_a_scale() -> None:
    def spread(slot: Any) -> Any:
        return np.where(slot % 4 == 0, 100.0, 1.0)

    before, test = made(800, 0, spread=spread), made(800, 1, spread=spread)
    quantiles = followed(calibrated(before), test, learn=False)
    plain = test.point[..., None] + split_quantiles(before.truth - before.point, np.array(LEVELS))
    busy = np.broadcast_to((test.slot % 4 == 0)[..., None], test.truth.shape)

    def worst(found: Arrays) -> float:
        of = [coverage(found[..., 0], found[..., -1], test.truth, hours) for hours in (busy, ~busy)]
        return max(abs(float(one) - 0.9) for one in of)

    assert worst(quantiles) < 0.03 < 0.09 < worst(plain)


def test_errors_on_one_side_give_an_interval_on_that_side() -> None:
    found = made(200, 0)
    above = Residuals(found.point, found.point + 1 + np.abs(found.truth), found.scored, found.slot, IDS)
    assert (calibrated(above).quantiles(found.point[0], found.slot[0]) > found.point[0][..., None]).all()


def test_new_sensors_are_as_the_group_and_become_themselves() -> None:
    ids = ("new", "c", "other")
    intervals = calibrated(made(300, 0), ids)
    here = made(900, 1, sensors=3, size=0.1)
    first = intervals.quantiles(here.point[0], here.slot[0])
    assert np.isfinite(first).all()
    assert (first[:, 0] == first[:, 2]).all()
    assert (first[:, 0] != first[:, 1]).any()
    assert (calibrated(made(300, 0), ("c",)).quantiles(here.point[0][:, :1], here.slot[0])[:, 0] == first[:, 1]).all()
    arrived = np.ones((HORIZON, 3), dtype=bool)
    arrived[:, 2] = False
    found = []
    for point, slot, truth, _ in each(here):
        found.append(intervals.quantiles(point, slot))
        intervals.learn(point, slot, truth, arrived)
    late = np.stack(found)[500:, :, 0]
    share = np.mean((late[..., 0] <= here.truth[500:, :, 0]) & (here.truth[500:, :, 0] <= late[..., -1]))
    assert share == pytest.approx(0.9, abs=0.03)
    last = found[-1][..., -1] - found[-1][..., 0]
    assert (last[:, 0] < last[:, 2]).all(), "what was never seen of a sensor is not known of it"


@pytest.mark.parametrize("residuals", [nothing(), nothing(IDS)])
def test_without_residuals_nothing_is_known_until_something_is_learned_and_then_it_is_wide(
    residuals: Residuals,
) -> None:
    intervals, here = calibrated(residuals), made(900, 0)
    assert np.isnan(intervals.quantiles(here.point[0], here.slot[0])).all()
    intervals.learn(here.point[0], here.slot[0], here.truth[0], here.scored[0])
    wide = intervals.quantiles(here.point[0], here.slot[0])
    assert np.isfinite(wide).all()
    assert (wide[..., -1] - wide[..., 0] > 4 * np.abs(here.truth[0] - here.point[0]).mean()).all()
    late = followed(intervals, here)[600:]
    assert coverage(late[..., 0], late[..., -1], here.truth[600:], here.scored[600:]) == pytest.approx(0.9, abs=0.04)


def test_too_few_residuals_for_a_level_give_an_interval_beyond_all_of_them() -> None:
    few = made(2, 0)
    quantiles = calibrated(few).quantiles(few.point[0], few.slot[0])
    assert np.isfinite(quantiles).all()
    assert (quantiles[..., 0] <= few.truth.min(0)).all()
    assert (quantiles[..., -1] >= few.truth.max(0)).all()


def test_what_is_not_scored_is_not_learned() -> None:
    found = made(100, 0)
    hidden = Residuals(found.point, found.truth, np.zeros_like(found.scored), found.slot, IDS)
    assert np.isnan(calibrated(hidden).quantiles(found.point[0], found.slot[0])).all()
    intervals = calibrated(found)
    before = intervals.quantiles(found.point[0], found.slot[0])
    for point, slot, truth, _ in each(found):
        intervals.learn(point, slot, 1000 * truth, NONE)
        intervals.learn(point, slot, np.full_like(truth, np.nan), ~NONE)
    assert (intervals.quantiles(found.point[0], found.slot[0]) == before).all()


def test_an_outage_and_one_absurd_reading_do_not_blow_up_and_are_forgotten() -> None:
    intervals, here = calibrated(made(300, 0)), made(600, 1)

    def width() -> Arrays:
        quantiles = intervals.quantiles(here.point[0], here.slot[0])
        assert np.isfinite(quantiles).all()
        return np.asarray(quantiles[..., -1] - quantiles[..., 0])

    usual = width()
    for point, slot, truth, _ in each(here):
        intervals.learn(point, slot, truth, NONE)
    assert (width() == usual).all()
    for step in range(2):  # the second takes in the scale of the first
        intervals.learn(here.point[step], here.slot[step], here.point[step] + 1e12, ~NONE)
        assert (width() < 10 * usual).all()
    followed(intervals, here)
    assert (width() < 2 * usual).all()


@pytest.mark.parametrize("order", [(3, 1, 0, 2), (1, 0, 3, 2)])
def test_the_order_of_sensors_does_not_matter(order: tuple[int, ...]) -> None:
    before, here, turned = made(100, 0), made(60, 1), list(order)

    def turn(found: Residuals) -> Residuals:
        ids = tuple(IDS[row] for row in turned)
        parts = (found.point[..., turned], found.truth[..., turned], found.scored[..., turned])
        return Residuals(*parts, found.slot, ids)

    straight = followed(calibrated(before), here)
    other = followed(calibrated(turn(before), turn(before).ids), turn(here))
    assert other == pytest.approx(straight[:, :, turned])


def test_the_order_in_which_truths_of_one_step_are_learned_does_not_matter() -> None:
    here = made(40, 1)
    found = []
    for turned in (False, True):
        intervals = calibrated(made(100, 0))
        for now in range(HORIZON, 40):
            for ahead in sorted(range(1, HORIZON + 1), reverse=turned):
                arrived, at = NONE.copy(), now - ahead
                arrived[ahead - 1] = True
                intervals.learn(here.point[at], here.slot[at], here.truth[at], arrived)
        found.append(intervals.quantiles(here.point[0], here.slot[0]))
    assert found[0] == pytest.approx(found[1])


def test_the_same_truth_gives_the_same_quantiles_and_changes_no_argument() -> None:
    before, here = made(100, 0), made(60, 1)
    copies = [
        array.copy() for found in (before, here) for array in (found.point, found.truth, found.scored, found.slot)
    ]
    first, second = (followed(calibrated(before), here) for _ in range(2))
    assert (first == second).all()
    after = [array for found in (before, here) for array in (found.point, found.truth, found.scored, found.slot)]
    assert all((one == other).all() for one, other in zip(copies, after, strict=True))


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(-100, 100)
cells = arrays(np.float64, (4, HORIZON, SENSORS), elements=numbers)


@settings(max_examples=60, deadline=None)
@given(
    cells, cells, arrays(bool, (4, HORIZON, SENSORS)), cells, arrays(bool, (4, HORIZON, SENSORS)), st.integers(1, 200)
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_quantiles_are_sorted_and_there_for_every_forecast_whatever_arrives(
    point: Arrays, truth: Arrays, scored: Any, later: Arrays, seen: Any, week: int
) -> None:
    slot = slots(4)
    intervals = Intervals.calibrate(
        Residuals(point, truth, scored, slot, IDS), ("b", "x", "a", "y"), slots_per_week=week
    )
    known = bool((scored & np.isfinite(truth - point)).any())
    for row in range(4):
        quantiles = intervals.quantiles(later[row], slot[row])
        if known:
            there = np.isfinite(later[row])
            assert np.isfinite(quantiles[there]).all()
            assert (np.diff(quantiles[there], axis=-1) >= 0).all()
        else:
            assert np.isnan(quantiles).all()
        intervals.learn(later[row], slot[row], truth[row], seen[row])
        known = known or bool((seen[row] & np.isfinite(truth[row] - later[row])).any())
