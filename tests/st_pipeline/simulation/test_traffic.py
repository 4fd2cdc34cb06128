"""The traffic model against the closed forms of the triangular fundamental diagram."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from st_pipeline.simulation.network import build_city
from st_pipeline.simulation.traffic import Record, Roads, exchange, run

FREE, CAPACITY, JAM, LENGTH, STEP = 25.0, 0.5, 0.12, 500.0, 20.0  # m/s, veh/s, veh/m, m, s: one cell per step
WAVE = CAPACITY / (JAM - CAPACITY / FREE)


def chain(cells: int, **changes: object) -> Roads:
    """Origin, `cells` cells in a row, destination: cells 1 to `cells` are the road."""
    count = cells + 2
    jam = np.full(count, JAM)
    jam[[0, -1]] = np.inf
    roads = Roads(
        length=np.full(count, LENGTH),
        free_speed=np.full(count, FREE),
        capacity=np.full(count, CAPACITY),
        jam=jam,
        links=np.array([[i, i + 1] for i in range(count - 1)]),
    )
    return replace(roads, **changes)


def constant(flow: float, slices: int, days: int = 1) -> np.ndarray:
    """Arrivals of `flow` veh/s."""
    return np.full((slices, 1, days), flow * STEP)


def drive(roads: Roads, arrivals: np.ndarray, *, origins: tuple[int, ...] = (0,), **more: object) -> Record:
    """Run with slices of one step, watching every cell."""
    watch = np.arange(len(roads.length))
    return run(roads, arrivals=arrivals, origins=np.array(origins), watch=watch, slice_steps=1, step=STEP, **more)


def with_bottleneck(cells: int, at: int, part: float) -> Roads:
    capacity = np.full(cells + 2, CAPACITY)
    capacity[at] *= part
    jam = np.full(cells + 2, JAM)
    jam[at] = capacity[at] / FREE + capacity[at] / WAVE
    jam[[0, -1]] = np.inf
    return chain(cells, capacity=capacity, jam=jam)


def test_free_vehicles_advance_one_cell_per_step_when_a_cell_is_one_step_long() -> None:
    arrivals = np.zeros((12, 1, 1))
    arrivals[0] = 4.0
    flow = drive(chain(8), arrivals).flow[:, :, 0]
    for cell in range(9):
        assert flow[cell, cell] == pytest.approx(4.0)
        assert flow[:, cell].sum() == pytest.approx(4.0)


def test_free_vehicles_travel_at_free_speed_in_long_cells() -> None:
    roads = chain(6, length=np.full(8, 3 * LENGTH))
    record = drive(roads, constant(0.3, 200))
    speed = record.flow[-1, 1:7, 0] / STEP * 3 * LENGTH / record.held[-1, 1:7, 0]
    assert speed == pytest.approx(FREE)


def test_vehicles_are_conserved_in_every_cell_of_a_city() -> None:
    rng = np.random.default_rng(3)
    city = build_city(3, rng)
    origins = np.array([origin.cell for origin in city.origins])
    peaks = np.array([origin.peak for origin in city.origins])
    arrivals = rng.uniform(0, 2.2, size=(60, len(origins), 4)) * peaks[:, None] / 12
    everywhere = np.arange(len(city.cells))
    record = run(city.roads, arrivals=arrivals, origins=origins, watch=everywhere, slice_steps=15, step=20.0)
    assert record.final.sum() == pytest.approx(arrivals.sum(), rel=1e-12)
    inflow = np.zeros_like(record.final)
    passed = record.flow.sum(axis=0)
    inflow[origins] += arrivals.sum(axis=0)
    roads = city.roads
    inflow[roads.links[:, 1]] += passed[roads.links[:, 0]]
    inflow[roads.merges[:, 2]] += passed[roads.merges[:, 0]] + passed[roads.merges[:, 1]]
    inflow[roads.diverges[:, 1]] += passed[roads.diverges[:, 0]] * (1 - roads.share[:, None])
    inflow[roads.diverges[:, 2]] += passed[roads.diverges[:, 0]] * roads.share[:, None]
    np.testing.assert_allclose(inflow - passed, record.final, rtol=0, atol=1e-7)


@pytest.mark.parametrize("load", [0.5, 1.0, 3.0])
def test_flow_stays_below_capacity_and_density_between_zero_and_jam(load: float) -> None:
    rng = np.random.default_rng(4)
    roads = build_city(3, rng).roads
    vehicles = np.zeros((len(roads.length), 3))
    limit = np.repeat(roads.capacity[:, None] * 20.0, 3, axis=1)
    room = (roads.jam * roads.length)[:, None]
    for step in range(300):
        blocked = limit * (0.2 if 100 < step < 200 else 1.0)
        entering, leaving = exchange(roads, vehicles, limit=blocked, step=20.0)
        assert (leaving <= blocked * (1 + 1e-12)).all()
        assert (entering <= blocked * (1 + 1e-12)).all()
        assert entering.sum() == pytest.approx(leaving.sum(), rel=1e-12)
        vehicles = vehicles + entering - leaving
        assert (vehicles >= -1e-9).all()
        assert (vehicles <= room * (1 + 1e-12)).all()
        ends = ~np.isfinite(roads.jam)
        vehicles[ends] += load * limit[ends] * rng.random((ends.sum(), 3))


def test_a_queue_grows_by_the_difference_of_the_flows() -> None:
    demand, part = 0.4, 0.5
    record = drive(with_bottleneck(60, at=50, part=part), constant(demand, 600))
    stock = record.held[:, 1:50, 0].sum(axis=1)
    growth = (stock[400] - stock[200]) / (200 * STEP)
    assert growth == pytest.approx(demand - part * CAPACITY, rel=1e-6)
    assert record.flow[400:, 51, 0] / STEP == pytest.approx(part * CAPACITY)


def test_the_tail_of_a_queue_moves_upstream_at_the_speed_of_the_triangle() -> None:
    demand, part = 0.4, 0.5
    record = drive(with_bottleneck(60, at=50, part=part), constant(demand, 400))
    ahead, behind = part * CAPACITY, demand
    jammed = JAM - ahead / WAVE
    speed = (behind - ahead) / (behind / FREE - jammed)  # negative: upstream
    tail = [int(np.argmax(record.held[step, :, 0] / LENGTH > (behind / FREE + jammed) / 2)) for step in (100, 300)]
    assert speed < 0
    assert tail[1] - tail[0] == pytest.approx(speed * 200 * STEP / LENGTH, abs=1)
    queued = record.held[300, tail[1] + 6 : 49, 0] / LENGTH
    assert queued == pytest.approx(jammed, rel=1e-3)


def test_lost_capacity_congests_upstream_and_empties_downstream() -> None:
    def left(index: int) -> np.ndarray:
        part = np.ones((42, 2))
        part[20, 1] = 0.3 if 60 <= index < 120 else 1.0
        return part

    record = drive(chain(40), constant(0.35, 240, days=2), capacity_left=left)
    held, plain = record.held[:, :, 1], record.held[:, :, 0]
    assert held[119, 15:20].min() > 3 * plain[119, 15:20].max()
    assert held[119, 22:40].max() < plain[119, 22:40].min()
    np.testing.assert_allclose(held[:60], plain[:60])
    np.testing.assert_allclose(held[239, 1:41], plain[239, 1:41], rtol=1e-6)


def test_a_contested_merge_is_shared_by_priority() -> None:
    jam = np.array([np.inf, np.inf, JAM, np.inf])
    roads = chain(2, jam=jam, links=np.array([[2, 3]]), merges=np.array([[0, 1, 2]]), priority=np.array([0.7]))
    record = drive(roads, np.full((50, 2, 1), 2 * CAPACITY * STEP), origins=(0, 1))
    assert record.flow[-1, :2, 0] / STEP == pytest.approx([0.7 * CAPACITY, 0.3 * CAPACITY])


def test_an_uncontested_merge_lets_everybody_through() -> None:
    jam = np.array([np.inf, np.inf, JAM, np.inf])
    roads = chain(2, jam=jam, links=np.array([[2, 3]]), merges=np.array([[0, 1, 2]]), priority=np.array([0.7]))
    arrivals = np.repeat([[[0.1 * STEP], [0.35 * STEP]]], 50, axis=0)
    record = drive(roads, arrivals, origins=(0, 1))
    assert record.flow[-1, :2, 0] / STEP == pytest.approx([0.1, 0.35])


def test_a_full_exit_holds_up_those_who_drive_on() -> None:
    capacity = np.array([CAPACITY, CAPACITY, CAPACITY, 0.05])
    jam = np.array([np.inf, JAM, np.inf, np.inf])
    diverges = {"diverges": np.array([[1, 2, 3]]), "share": np.array([0.25])}
    roads = chain(2, capacity=capacity, jam=jam, links=np.array([[0, 1]]), **diverges)
    record = drive(roads, constant(0.4, 100))
    assert record.flow[-1, 1, 0] / STEP == pytest.approx(0.05 / 0.25)
    gained = record.final[2:, 0]
    assert gained[1] / gained.sum() == pytest.approx(0.25)


def test_a_step_longer_than_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="crosses more than a cell; expected at most 20"):
        run(chain(3), arrivals=np.zeros((1, 1, 1)), origins=np.array([0]), watch=np.arange(5), slice_steps=1, step=21.0)
