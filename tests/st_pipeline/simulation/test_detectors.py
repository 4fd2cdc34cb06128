"""Sensor lives and what a detector makes of the traffic."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest

from st_pipeline.simulation import Scenario, Simulation
from st_pipeline.simulation.detectors import NO_VEHICLE, Detector, install, measure
from st_pipeline.simulation.network import build_city

SCENARIO = Scenario(periods=6, sensors=40, growth=8)


@pytest.fixture(scope="module")
def detectors() -> list[Detector]:
    return install(build_city(4, np.random.default_rng(0)), SCENARIO)


def alive(detectors: list[Detector], period: int) -> set[str]:
    begin, end = SCENARIO.period_start(period), SCENARIO.period_start(period + 1)
    return {detector.sensor_id for detector in detectors if detector.alive(begin, end)}


def test_the_network_grows_in_every_period(detectors: list[Detector]) -> None:
    count = [len(alive(detectors, period)) for period in range(SCENARIO.periods)]
    assert count[0] == SCENARIO.sensors
    assert all(later > earlier for earlier, later in pairwise(count))
    for period in range(1, SCENARIO.periods):
        assert len(alive(detectors, period) - alive(detectors, period - 1)) == SCENARIO.growth


def test_ids_are_numeric_text_with_leading_zeros_in_no_order_of_age(detectors: list[Detector]) -> None:
    ids = [detector.sensor_id for detector in detectors]
    assert len(set(ids)) == SCENARIO.sensors_ever
    assert all(len(name) == 4 and name.isdigit() for name in ids)
    assert any(name.startswith("0") for name in ids)
    new = [detector.installed >= SCENARIO.start for detector in detectors]
    assert not all(new[-sum(new) :])


def test_some_retire_some_fall_silent_and_some_move(detectors: list[Detector]) -> None:
    retired = [detector.retired for detector in detectors if detector.retired]
    assert len(retired) == 2 * (SCENARIO.periods - 1)
    assert all(SCENARIO.period_start(1) <= day <= SCENARIO.period_start(SCENARIO.periods) for day in retired)
    silent = [detector for detector in detectors if detector.silent]
    assert sorted(period for detector in silent for period in detector.silent) == [1, 3, 5]
    assert all(detector.retired is None for detector in silent)
    moved = [detector for detector in detectors if detector.moved_on]
    assert sorted(detector.moved_on for detector in moved) == [SCENARIO.period_start(2), SCENARIO.period_start(4)]
    for detector in moved:
        assert detector.cell_on(detector.moved_on - timedelta(days=1)) == detector.cell != detector.moved_to
        assert detector.cell_on(detector.moved_on) == detector.moved_to


def test_no_two_detectors_share_a_cell(detectors: list[Detector]) -> None:
    cells = [cell for detector in detectors for cell in detector.cells]
    assert len(cells) == len(set(cells))


def sample(passed: float, held: float, *, size: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Measured flow and speed where `passed` vehicles leave a cell in five minutes that holds `held`."""
    one = np.ones(1)
    return measure(
        np.full((size, 1), passed),
        np.full((size, 1), held),
        gain=one,
        bias=one,
        capacity=one * 4000,
        length=one * 750,
        hours=1 / 12,
        rng=np.random.default_rng(0),
    )


@pytest.mark.parametrize("passed", [0.5, 8.0, 19.0, 21.0, 120.0, 300.0])
def test_counts_are_whole_and_right_on_average(passed: float) -> None:
    flow, _ = sample(passed, passed * 0.1)
    counts = flow / 12
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
    assert counts.mean() == pytest.approx(passed, rel=0.05)
    assert counts.std() < 1.1 * passed**0.5


def test_speed_is_that_of_the_vehicles_and_steadier_when_there_are_many() -> None:
    few, many = (sample(passed, passed * 0.75 / (90 / 12))[1] for passed in (3.0, 150.0))
    assert many.mean() == pytest.approx(90, rel=0.05)
    assert few[few > 0].std() > 2 * many.std()
    np.testing.assert_allclose(many, np.round(many, 1))


def test_an_empty_interval_has_flow_zero_and_no_speed() -> None:
    flow, speed = sample(0.5, 0.05)
    assert ((flow == 0) == (speed == NO_VEHICLE)).all()
    assert 0.5 < (flow == 0).mean() < 0.7
    assert (speed[flow > 0] > 0).all()


def test_detectors_of_the_default_stream_see_plausible_traffic(default: Simulation) -> None:
    truth = default.periods[0].truth
    assert truth.filter(truth["flow"] > 0)["speed"].min() >= 1
    assert truth["speed"].max() <= 180
    assert truth["flow"].max() < 7500
