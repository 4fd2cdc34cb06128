"""Every metric is the textbook one over the scored cells, whatever batches, cohorts and horizons they come in."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional import regression

from st_pipeline.data.protocols import Part
from st_pipeline.evaluation.metrics import METRICS, Tally, error_sums
from st_pipeline.evaluation.rows import PUBLISHED

Batch = tuple[Tensor, Tensor, Tensor]
WINDOWS, STEPS, NODES = 20, 4, 5
SEEDS = st.integers(0, 2**32 - 1)


def random_batch(seed: int, *, missing: float = 0.3, zeros: float = 0.2) -> Batch:
    """Forecast, truth and scored cells (20, 4, 5); some truths are zero, some negative."""
    random = np.random.default_rng(seed)
    size = (WINDOWS, STEPS, NODES)
    truth = random.normal(20, 30, size) * (random.random(size) >= zeros)
    forecast = truth + random.normal(0, 5, size)
    return torch.tensor(forecast).float(), torch.tensor(truth).float(), torch.tensor(random.random(size) >= missing)


def textbook(forecast: Tensor, truth: Tensor, cells: Tensor) -> dict[str, float]:
    """The metrics by torchmetrics, over the given cells."""
    p, y = forecast[cells].double(), truth[cells].double()
    away = y != 0
    values = {
        "mae": regression.mean_absolute_error(p, y),
        "rmse": regression.mean_squared_error(p, y, squared=False),
        "mape": 100 * regression.mean_absolute_percentage_error(p[away], y[away]),
        "wape": 100 * regression.weighted_mean_absolute_percentage_error(p, y),
        "r2": regression.r2_score(p, y),
    }
    return {name: float(value) for name, value in values.items()}


def public_code(forecast: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """EAC's `cal_metric`: over the first i steps, zero targets masked, the mean over i."""

    def masked(y: NDArray[np.float64], error: NDArray[np.float64]) -> float:
        mask = (y != 0).astype(np.float64)
        mask /= mask.mean()
        return float(np.nan_to_num(mask * error).mean())

    found: dict[str, list[float]] = {"mae": [], "rmse": [], "mape": []}
    for upto in range(1, STEPS + 1):
        p, y = forecast[:, :upto], truth[:, :upto]
        with np.errstate(divide="ignore", invalid="ignore"):
            found["mae"].append(masked(y, np.abs(p - y)))
            found["rmse"].append(masked(y, (p - y) ** 2) ** 0.5)
            found["mape"].append(100 * masked(y, np.abs((p - y) / y)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def same(one: dict[tuple[str, str], float], other: dict[tuple[str, str], float]) -> None:
    assert one.keys() == other.keys()
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-9)


@given(SEEDS)
def test_metrics_are_those_of_torchmetrics_at_and_up_to_every_step(seed: int) -> None:
    forecast, truth, scored = random_batch(seed)
    scores = Tally.of([(forecast, truth, scored)]).scores()
    for step in range(1, STEPS + 1):
        parts = {"at": slice(step - 1, step), "upto": slice(step)}
        for label, steps in parts.items():
            expected = textbook(forecast[:, steps], truth[:, steps], scored[:, steps])
            found = {name: scores[name, f"{label}:{step}"] for name in METRICS}
            assert found == pytest.approx(expected, rel=1e-6)


@given(SEEDS)
def test_the_published_average_is_that_of_the_public_code(seed: int) -> None:
    forecast, truth, _ = random_batch(seed)
    everything = torch.ones_like(truth, dtype=torch.bool)
    scores = Tally.of([(forecast, truth, everything)]).scores()
    expected = public_code(forecast.double().numpy(), truth.double().numpy())
    assert {name: scores[name, PUBLISHED] for name in expected} == pytest.approx(expected, rel=1e-6)


@given(SEEDS)
def test_the_published_average_is_the_mean_over_steps_of_errors_up_to_them(seed: int) -> None:
    forecast, truth, scored = random_batch(seed)
    scores = Tally.of([(forecast, truth, scored)]).scores()
    nonzero = Tally.of([(forecast, truth, scored & (truth != 0))]).scores()
    for name in METRICS:
        upto = [nonzero[name, f"upto:{step}"] for step in range(1, STEPS + 1)]
        assert scores[name, PUBLISHED] == pytest.approx(np.mean(upto), rel=1e-9)


@given(SEEDS, st.sets(st.integers(0, NODES - 1), min_size=1).flatmap(lambda rows: st.permutations(sorted(rows))))
def test_a_cohort_is_scored_as_if_it_were_the_network(seed: int, rows: list[int]) -> None:
    batch = random_batch(seed)
    alone = Tally.of([tuple(part[..., rows] for part in batch)])
    same(Tally.of([batch]).scores(rows), alone.scores())


@given(SEEDS, st.lists(st.integers(0, WINDOWS), max_size=4))
def test_sums_add_up_over_batches(seed: int, cuts: list[int]) -> None:
    batch = random_batch(seed)
    bounds = [0, *sorted(cuts), WINDOWS]
    pieces = [tuple(part[first:stop] for part in batch) for first, stop in pairwise(bounds)]
    same(Tally.of(reversed(pieces)).scores(), Tally.of([batch]).scores())


@given(SEEDS, st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30]))
def test_what_stands_in_masked_cells_never_reaches_a_sum(seed: int, absurd: float) -> None:
    forecast, truth, scored = random_batch(seed)
    clean = Tally.of([(forecast, truth, scored)])
    for spoiled in (
        (torch.where(scored, forecast, absurd), truth, scored),
        (forecast, torch.where(scored, truth, absurd), scored),
        (torch.where(scored, forecast, absurd), torch.where(scored, truth, absurd), scored),
    ):
        tally = Tally.of([spoiled])
        assert tally.scores() == clean.scores()
        np.testing.assert_array_equal(tally.by_sensor(), clean.by_sensor())


def test_a_forecast_that_is_no_number_is_not_hidden() -> None:
    forecast, truth, scored = random_batch(0, missing=0)
    forecast[3, 1, 2] = torch.nan
    tally = Tally.of([(forecast, truth, scored)])
    scores = tally.scores()
    assert np.isnan([scores[name, "at:2"] for name in ("mae", "rmse", "wape", "r2")]).all()
    assert np.isnan(scores["mae", PUBLISHED])
    assert np.isfinite(scores["mae", "at:1"])
    assert np.isnan(tally.by_sensor()).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", ["mae", "wape", "rmse"])
def test_errors_by_sensor_are_over_all_its_scored_cells(name: str) -> None:
    forecast, truth, scored = random_batch(1)
    found = Tally.of([(forecast, truth, scored)]).by_sensor(name)
    for node in range(NODES):
        assert found[node] == pytest.approx(textbook(*(part[..., node] for part in (forecast, truth, scored)))[name])


def test_relative_errors_are_finite_beside_zeros_and_undefined_without_anything_else() -> None:
    truth = torch.zeros(WINDOWS, STEPS, NODES)
    scored = torch.ones_like(truth, dtype=torch.bool)
    truth[:, 0, 0] = 4
    scores = Tally.of([(truth + 1, truth, scored)]).scores()
    assert scores["mape", "at:1"] == 25
    assert scores["wape", "at:1"] == pytest.approx(100 * NODES / 4)
    assert np.isnan([scores["mape", "at:2"], scores["wape", "at:2"]]).all()
    assert {scores["mae", f"at:{step}"] for step in range(1, STEPS + 1)} == {1.0}
    assert scores["mae", PUBLISHED] == 1


def test_without_a_scored_cell_there_is_no_score() -> None:
    forecast, truth, scored = random_batch(2)
    assert np.isnan(list(Tally.of([(forecast, truth, torch.zeros_like(scored))]).scores().values())).all()
    assert np.isnan(list(Tally.of([(forecast, truth, scored)]).scores([]).values())).all()
    assert np.isnan(list(Tally.of([(forecast[:0], truth[:0], scored[:0])]).scores().values())).all()


def test_a_silent_sensor_and_a_silent_step_leave_the_others_alone() -> None:
    forecast, truth, scored = random_batch(3)
    scored[..., 1] = False
    scored[:, 2] = False
    tally = Tally.of([(forecast, truth, scored)])
    scores, rest = tally.scores(), tally.scores([0, 2, 3, 4])
    assert np.isnan(tally.by_sensor()).tolist() == [False, True, False, False, False]
    assert np.isnan(scores["mae", "at:3"])
    assert scores["mae", "upto:3"] == scores["mae", "upto:2"]
    assert scores["mae", "upto:4"] == rest["mae", "upto:4"]


@given(st.floats(0.1, 1e6) | st.floats(-1e6, -0.1))
def test_a_constant_sensor_has_no_variance_to_explain(level: float) -> None:
    forecast, truth, scored = random_batch(4)
    truth[..., 2] = level
    forecast[..., 2] = level + 0.5
    tally = Tally.of([(forecast, truth, scored)])
    own = tally.scores([2])
    assert np.isnan(own["r2", f"upto:{STEPS}"])
    assert own["mae", f"upto:{STEPS}"] == pytest.approx(0.5, rel=0.1)
    assert np.isfinite(tally.scores()["r2", f"upto:{STEPS}"])


def test_a_perfect_forecast_and_the_mean_are_the_marks_of_r2() -> None:
    _, truth, scored = random_batch(5)
    perfect = Tally.of([(truth, truth, scored)]).scores()
    assert {perfect[name, PUBLISHED] for name in ("mae", "rmse", "mape", "wape")} == {0.0}
    assert perfect["r2", PUBLISHED] == 1
    mean = torch.full_like(truth, float(truth[scored].double().mean()))
    assert Tally.of([(mean, truth, scored)]).scores()["r2", f"upto:{STEPS}"] == pytest.approx(0, abs=1e-6)


def forecasts_of(part: Part, seed: int) -> Batch:
    """Random forecasts of all windows of a part, with its truth and scored cells."""
    future = part.windows.future(part.starts)
    truth = part.truth[future]
    noise = torch.tensor(np.random.default_rng(seed).normal(0, 5, tuple(truth.shape)))
    return truth + noise.float(), truth, part.scored[future]


@given(
    SEEDS,
    st.sampled_from(["sound", "paper"]),
    st.sampled_from(["train", "test"]),
    st.sampled_from([(), (3,), (24, 48)]),
    st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    st.integers(1, 40),
)
def test_sums_over_a_part_are_those_over_its_windows(
    make_part, seed: int, protocol: str, name: str, lags: tuple[int, ...], missing: float, size: int
) -> None:
    part = make_part(seed=seed, length=120, protocol=protocol, name=name, lags=lags, missing=missing)
    batch = forecasts_of(part, seed)
    found = Tally.of_part(part, error_sums(*batch))
    expected = Tally.of(zip(*(column.split(size) for column in batch), strict=True))
    for sums, others in ((found.observed, expected.observed), (found.nonzero, expected.nonzero)):
        for field in fields(sums):
            mine, theirs = getattr(sums, field.name), getattr(others, field.name)
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, err_msg=field.name)
    same(found.scores(), expected.scores())


def test_zeros_and_gaps_of_a_part_are_there_to_be_counted(make_part) -> None:
    part = make_part(length=120, missing=0.3)
    tally = Tally.of_part(part, error_sums(*forecasts_of(part, 0)))
    assert (tally.observed.count < len(part.starts)).all()
    assert (tally.nonzero.count < tally.observed.count).any()


@pytest.mark.parametrize("absurd", [torch.nan, torch.inf, -torch.inf])
def test_what_stands_in_masked_cells_of_a_part_never_reaches_a_sum(make_part, absurd: float) -> None:
    part = make_part(length=120)
    errors = error_sums(*forecasts_of(part, 0))
    spoiled = replace(part, truth=torch.where(part.scored, part.truth, absurd))
    assert Tally.of_part(spoiled, errors).scores() == Tally.of_part(part, errors).scores()


def test_a_single_window_is_a_part_too(make_part) -> None:
    part = make_part(length=120)
    for start in (part.starts[:1], part.starts[-1:], part.starts[7:8]):
        single = replace(part, starts=start)
        batch = forecasts_of(single, 0)
        same(Tally.of_part(single, error_sums(*batch)).scores(), Tally.of([batch]).scores())
