"""Every fault does what its name says, to the share of cells asked for."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date

import numpy as np
import pytest

from st_pipeline.simulation import Scenario
from st_pipeline.simulation.detectors import Detector, Sample
from st_pipeline.simulation.faults import (
    DUPLICATE,
    FAULTS,
    LATE,
    NONE,
    OUT_OF_RANGE,
    OUTAGE,
    SPIKE,
    STUCK,
    Faulty,
    inject,
)

NO_FAULTS = {field.name: 0.0 for field in fields(Scenario) if field.name.endswith("_rate")}
SENSORS, CAPACITY = 12, 4000.0


def measured(scenario: Scenario, *, silent: bool = False) -> Sample:
    """A sample of random whole counts; sensor 3 is retired half way."""
    rng = np.random.default_rng(0)
    shape = (scenario.steps, SENSORS)
    alive = np.ones(shape, dtype=bool)
    alive[scenario.steps // 2 :, 3] = False
    one = Detector(sensor_id="0001", cell=1, installed=date(2020, 1, 1), gain=1.0, bias=1.0)
    detectors = [one] * SENSORS
    if silent:
        detectors[5] = replace(one, silent=(0,))
    flow, speed = rng.integers(1, 300, size=shape) * 12.0, np.round(rng.uniform(20, 110, shape), 1)
    return Sample(period=0, detectors=tuple(detectors), alive=alive, flow=flow, speed=speed)


def damaged(silent: bool = False, **rates: float) -> tuple[Sample, Faulty]:
    scenario = replace(Scenario(), **{**NO_FAULTS, **rates})
    sample = measured(scenario, silent=silent)
    road = np.array(["A1"] * 6 + ["A2"] * 6)
    capacity = np.full(SENSORS, CAPACITY)
    return sample, inject(sample, capacity=capacity, road=road, scenario=scenario, rng=np.random.default_rng(1))


def test_without_rates_nothing_is_wrong() -> None:
    sample, faulty = damaged()
    assert (faulty.fault == NONE).all()
    np.testing.assert_array_equal(faulty.flow, sample.flow)


@pytest.mark.parametrize("name", FAULTS[1:])
def test_a_fault_hits_about_the_share_asked_for_and_only_living_sensors(name: str) -> None:
    sample, faulty = damaged(**{f"{name}_rate": 0.02})
    hit = faulty.fault == FAULTS.index(name)
    assert set(np.unique(faulty.fault)) == {NONE, FAULTS.index(name)}
    assert not hit[~sample.alive].any()
    assert 0.005 < hit.mean() < 0.04
    untouched = ~hit
    np.testing.assert_array_equal(faulty.flow[untouched], sample.flow[untouched])
    np.testing.assert_array_equal(faulty.speed[untouched], sample.speed[untouched])


def test_a_silent_sensor_is_out_for_the_whole_period() -> None:
    _, faulty = damaged(silent=True)
    assert (faulty.fault[:, 5] == OUTAGE).all()
    assert (np.delete(faulty.fault, 5, axis=1) == NONE).all()


def test_outages_are_long_and_some_take_a_whole_road() -> None:
    _, faulty = damaged(outage_rate=0.05)
    out = faulty.fault == OUTAGE
    starts = (np.diff(out.astype(int), axis=0) == 1).sum()
    assert out.sum() / starts > 12
    assert (out[:, :3].all(axis=1) | out[:, 6:].all(axis=1)).sum() > 12


def test_stuck_cells_repeat_the_cell_before_them() -> None:
    _, faulty = damaged(stuck_rate=0.02)
    row, column = np.nonzero(faulty.fault == STUCK)
    for values in (faulty.flow, faulty.speed):
        np.testing.assert_array_equal(values[row, column], values[row - 1, column])


def test_spikes_are_single_possible_and_far_off() -> None:
    sample, faulty = damaged(spike_rate=0.02)
    spike = faulty.fault == SPIKE
    assert not (spike[1:] & spike[:-1]).any()
    assert faulty.flow[spike].min() > 0
    assert faulty.flow[spike].max() <= CAPACITY
    assert np.abs(faulty.flow - sample.flow)[spike].min() > 0.3 * CAPACITY
    assert np.abs(faulty.speed - sample.speed)[spike].min() > 30


def test_values_out_of_range_are_impossible() -> None:
    _, faulty = damaged(out_of_range_rate=0.02)
    hit = faulty.fault == OUT_OF_RANGE
    flow, speed = faulty.flow[hit], faulty.speed[hit]
    assert ((flow < 0) | (flow > 4 * CAPACITY) | (speed > 200)).all()
    assert (flow < 0).any()
    assert (flow > 4 * CAPACITY).any()
    assert (speed > 200).any()


def test_about_half_of_the_duplicates_count_too_few_at_first() -> None:
    sample, faulty = damaged(duplicate_rate=0.02)
    assert (faulty.fault[faulty.corrected] == DUPLICATE).all()
    assert 0.35 < faulty.corrected.sum() / (faulty.fault == DUPLICATE).sum() < 0.65
    assert (faulty.flow < sample.flow)[faulty.corrected].all()
    rest = ~faulty.corrected
    np.testing.assert_array_equal(faulty.flow[rest], sample.flow[rest])


def test_late_rows_lie_at_the_end_of_the_period() -> None:
    _, faulty = damaged(late_rate=0.004)
    assert np.nonzero(faulty.fault == LATE)[0].min() >= len(faulty.fault) - 48 * 12


def test_injection_leaves_its_input_alone() -> None:
    before = measured(Scenario())
    sample, _ = damaged(spike_rate=0.1, stuck_rate=0.1)
    np.testing.assert_array_equal(sample.flow, before.flow)
