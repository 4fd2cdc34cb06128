"""Every scenario changes in what is read exactly what it says, in the test part alone, and nothing that is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import groupby
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Generator

from st_pipeline.data.protocols import PROTOCOLS, PeriodArrays
from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.errors import InputError
from st_pipeline.evaluation.scenarios import (
    SCENARIOS,
    BlockOutage,
    ClockShift,
    DeadCluster,
    Missing,
    Noise,
    Scenario,
    Stuck,
    UnitChange,
)
from st_pipeline.model_config import ScalingConfig
from st_pipeline.types import Graph, NodeSet

Make = Callable[..., PeriodArrays]
LENGTH, NODES = 600, 20
BOTH = pytest.mark.parametrize("protocol", list(PROTOCOLS))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def make(make_stream) -> Make:
    """`make(protocol, length=600, nodes=20, missing=0.1)`: two channels of readings above zero; half is test part."""

    def arrays(
        protocol: str = "sound", *, length: int = LENGTH, nodes: int = NODES, missing: float = 0.1, step: str = "1h"
    ) -> PeriodArrays:
        random = np.random.default_rng([length, nodes])
        columns = {"flow": "q", "speed": "v"}
        source = {"format": "parquet", "readings": "r.parquet", "sensors": "s.parquet", "columns": columns}
        split = {"train": 0.3, "validation": 0.2, "test": 0.5}
        stream = make_stream(source=source, inputs=["flow", "speed"], split=split, step=step)
        size = (length, nodes, 2)
        values = random.gamma(9, np.arange(1, nodes + 1)[:, None], size).astype(np.float32)
        flags = np.where(random.random(size) < missing, MISSING, OBSERVED).astype(np.uint8)
        values[flags == MISSING] = 0
        ids = tuple(f"s{row}" for row in range(nodes))
        times = 3600 * np.arange(length, dtype=np.int64)
        tensor = SeriesTensor("2024-01-01", ids, stream.input_names, "UTC", values, flags, times)
        return PeriodArrays.of(tensor, NodeSet.of(ids), stream, protocol=PROTOCOLS[protocol], lags=(24,))

    return arrays


@pytest.fixture(scope="module")
def graph(random_graph) -> Graph:
    return random_graph(NODES, share=0.15)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def readings(arrays: PeriodArrays) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values of the test part and whether each is a reading, told by the mask or by the zero."""
    values = arrays.values[arrays.cuts.test.start :].double().numpy()
    heard = arrays.usable[arrays.cuts.test.start :].numpy()
    return values, heard & (values != 0) if arrays.protocol.missing == "zero" else heard


def compared(scenario: Scenario, arrays: PeriodArrays, graph: Graph, seed: int = 0) -> Iterator[Any]:
    """Values and heard cells before, then after."""
    yield from readings(arrays)
    yield from readings(scenario(arrays, graph, seeded(seed)))


def same(one: PeriodArrays, other: PeriodArrays) -> bool:
    return torch.equal(one.values, other.values) and torch.equal(one.usable, other.usable)


# All scenarios


@BOTH
@pytest.mark.parametrize("name", SCENARIOS)
def test_only_readings_of_the_test_part_change(make: Make, graph: Graph, name: str, protocol: str) -> None:
    arrays = make(protocol)
    before = arrays.values.clone(), arrays.usable.clone()
    changed = SCENARIOS[name](arrays, graph, seeded())
    assert torch.equal(arrays.values, before[0]) and torch.equal(arrays.usable, before[1]), "the input is left alone"
    assert not same(changed, arrays)
    kept = {field.name for field in fields(arrays)} - {"values", "usable"}
    assert all(getattr(changed, name) is getattr(arrays, name) for name in kept)
    start = arrays.cuts.test.start
    assert torch.equal(changed.values[:start], arrays.values[:start])
    assert torch.equal(changed.usable[:start], arrays.usable[:start])
    assert changed.values.shape == arrays.values.shape and changed.values.dtype == arrays.values.dtype
    assert not changed.values[~changed.usable].any()
    assert changed.values.isfinite().all()
    if protocol == "paper":
        assert changed.usable.all()


@BOTH
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_decides_what_happens(make: Make, graph: Graph, name: str, protocol: str) -> None:
    arrays = make(protocol)
    first = SCENARIOS[name](arrays, graph, seeded(1))
    torch.rand(3)
    assert same(SCENARIOS[name](arrays, graph, seeded(1)), first)
    others = [SCENARIOS[name](arrays, graph, seeded(seed)) for seed in (2, 3, 4)]
    assert all(same(other, first) for other in others) == (name == "clock_shift")


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_global_random_state_is_neither_read_nor_moved(make: Make, graph: Graph, name: str) -> None:
    state = torch.get_rng_state()
    SCENARIOS[name](make(), graph, seeded())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "noise"])
def test_both_protocols_meet_the_same_faults(make: Make, graph: Graph, name: str) -> None:
    """No reading is zero here, so that zero tells in one protocol what the mask tells in the other."""
    (sound, heard), (paper, nonzero) = (readings(SCENARIOS[name](make(p), graph, seeded(5))) for p in PROTOCOLS)
    np.testing.assert_array_equal(sound, paper)
    np.testing.assert_array_equal(heard, nonzero)


@pytest.mark.parametrize("name", SCENARIOS)
def test_windows_before_the_test_part_and_lags_into_it_stay_true(make: Make, graph: Graph, name: str) -> None:
    arrays = make()
    scaler = arrays.fit_scaler(ScalingConfig())
    changed = SCENARIOS[name](arrays, graph, seeded())
    for part in ("train", "validation"):
        one, other = arrays.part(part, scaler).windows, changed.part(part, scaler).windows
        assert torch.equal(one.values, other.values) and torch.equal(one.observed, other.observed)
    true, read = arrays.part("test", scaler), changed.part("test", scaler)
    assert torch.equal(read.truth, true.truth) and torch.equal(read.scored, true.scored)
    assert torch.equal(read.windows.values[:24], true.windows.values[:24])


# Missing


@BOTH
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_missing_cells_have_their_share(make: Make, graph: Graph, share: float, protocol: str) -> None:
    values, heard, after, kept = compared(Missing(share), make(protocol), graph)
    assert not (kept & ~heard).any()
    np.testing.assert_array_equal(after[kept], values[kept])
    lost = heard & ~kept
    assert not after[lost].any()
    assert lost[heard].mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / heard.sum()))
    for axis in range(3):
        assert (lost.take(0, axis) != lost.take(1, axis)).any(), "steps, sensors and channels have draws of their own"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_missing_none_and_missing_all(make: Make, graph: Graph, share: float) -> None:
    arrays = make()
    changed = Missing(share)(arrays, graph, seeded())
    assert same(changed, arrays) if share == 0 else not changed.usable[arrays.cuts.test.start :].any()


# Noise


@BOTH
@pytest.mark.parametrize("decibel", [10.0, 0.0, 30.0])
def test_noise_has_its_power_at_every_sensor(make: Make, graph: Graph, decibel: float, protocol: str) -> None:
    values, heard, after, kept = compared(Noise(decibel), make(protocol, length=4000), graph)
    np.testing.assert_array_equal(kept, heard)
    assert not after[~heard].any()
    found = []
    for node in range(NODES):
        for channel in range(2):
            seen = heard[:, node, channel]
            signal, noise = values[seen, node, channel], (after - values)[seen, node, channel]
            found.append(10 * np.log10(np.var(signal) / np.mean(noise**2)))
            assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(seen.sum())
            assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.12
    assert np.mean(found) == pytest.approx(decibel, abs=0.15)
    assert np.abs(np.array(found) - decibel).max() < 1


def test_a_sensor_that_never_changes_gets_no_noise(make: Make, graph: Graph) -> None:
    arrays = make()
    values = arrays.values.clone()
    values[:, 3] = 7.5 * arrays.usable[:, 3]
    still = replace(arrays, values=values)
    changed = Noise()(still, graph, seeded())
    assert torch.equal(changed.values[:, 3], values[:, 3])
    assert not torch.equal(changed.values[:, 4], values[:, 4])


def test_a_sensor_that_is_never_heard_stays_silent_under_noise(make: Make, graph: Graph) -> None:
    arrays = make()
    silent = replace(arrays, values=arrays.values.clone(), usable=arrays.usable.clone())
    silent.values[:, 2], silent.usable[:, 2] = 0, False
    changed = Noise()(silent, graph, seeded())
    assert not changed.values[:, 2].any() and not changed.usable[:, 2].any() and changed.values.isfinite().all()


# Block outage


@BOTH
@given(seed=SEEDS, share=st.sampled_from([0.001, 0.05, 0.1]), stretches=st.integers(1, 6))
@settings(max_examples=15)
def test_outages_are_stretches_in_which_nobody_is_heard(
    make: Make, graph: Graph, seed: int, share: float, stretches: int, protocol: str
) -> None:
    values, heard, after, kept = compared(BlockOutage(share, stretches), make(protocol, missing=0.0), graph, seed)
    np.testing.assert_array_equal(after[kept], values[kept])
    silent = ~kept.any((1, 2))
    assert (kept[~silent] == heard[~silent]).all()
    length = max(1, round(share * len(kept)))
    assert silent.sum() == stretches * length
    runs = [sum(1 for _ in run) for lost, run in groupby(silent) if lost]
    assert all(run % length == 0 for run in runs), "stretches may meet, and do not overlap"


def test_outages_come_anywhere_in_the_test_part(make: Make, graph: Graph) -> None:
    arrays = make(missing=0.0)
    silent = np.zeros(len(arrays.cuts.test))
    for seed in range(100):
        silent += ~readings(BlockOutage(0.1, 2)(arrays, graph, seeded(seed)))[1].any((1, 2))
    assert silent.min() > 0 and silent.max() < 60


def test_outages_longer_than_the_test_part_are_refused(make: Make, graph: Graph) -> None:
    arrays = make(length=40)
    BlockOutage(0.5, 2)(arrays, graph, seeded())
    with pytest.raises(InputError, match=r"period 2024-01-01: its test part has 20 steps, but block outages need 30"):
        BlockOutage(0.5, 3)(arrays, graph, seeded())


# Dead cluster


def cluster(arrays: PeriodArrays, graph: Graph, seed: int, share: float = 0.2) -> set[int]:
    values, heard, after, kept = compared(DeadCluster(share), arrays, graph, seed)
    dead = np.flatnonzero(~kept.any((0, 2)))
    alive = np.setdiff1d(np.arange(heard.shape[1]), dead)
    np.testing.assert_array_equal(kept[:, alive], heard[:, alive])
    np.testing.assert_array_equal(after[:, alive], values[:, alive])
    return set(dead.tolist())


@BOTH
@given(seed=SEEDS)
@settings(max_examples=15)
def test_a_dead_cluster_is_a_node_and_those_nearest_to_it(make: Make, graph: Graph, protocol: str, seed: int) -> None:
    dead = cluster(make(protocol), graph, seed)
    assert len(dead) == 4
    ways = nx.Graph()
    ways.add_nodes_from(range(NODES))
    for row, column, weight in zip(graph.row.tolist(), graph.column.tolist(), graph.weight.tolist(), strict=True):
        known = ways.get_edge_data(row, column, {"length": np.inf})["length"]
        ways.add_edge(row, column, length=min(known, 1 / weight))

    def nearest(node: int) -> set[int]:
        away = nx.single_source_dijkstra_path_length(ways, node, weight="length")
        return set(sorted(away, key=lambda other: away[other])[:4])

    assert any(nearest(node) == dead for node in dead)


def test_heavier_edges_are_shorter(make: Make) -> None:
    """Node 0 is joined to 1 weakly and to 2 strongly, the others are far."""
    graph = Graph.from_edges([0, 2, 1], [1, 0, 3], [0.1, 0.9, 0.1], num_nodes=4)
    arrays = make(nodes=4)
    found = {frozenset(cluster(arrays, graph, seed, 0.5)) for seed in range(40)}
    assert found == {frozenset({0, 2}), frozenset({0, 1}), frozenset({1, 3})}


@pytest.mark.parametrize("weight", [None, 0.0, -1.0])
def test_without_edges_a_cluster_is_any_sensors(make: Make, weight: float | None) -> None:
    ends: Any = ([], [], []) if weight is None else (range(9), range(1, 10), [weight] * 9)
    graph = Graph.from_edges(*(list(part) for part in ends), num_nodes=10)
    arrays = make(nodes=10)
    found = [frozenset(cluster(arrays, graph, seed)) for seed in range(30)]
    assert {len(dead) for dead in found} == {2}
    assert len(set(found)) > 15 and set().union(*found) == set(range(10))


def test_a_small_component_dies_whole_before_others_join_it(make: Make) -> None:
    graph = Graph.from_edges([0, 3, 4], [1, 4, 5], [0.5, 0.5, 0.5], num_nodes=6)
    arrays = make(nodes=6)
    for seed in range(20):
        dead = cluster(arrays, graph, seed, 0.5)
        assert len(dead) == 3
        assert dead == {3, 4, 5} or {0, 1} < dead or 2 in dead


def test_the_only_sensor_is_its_own_cluster(make: Make) -> None:
    assert cluster(make(nodes=1), Graph.from_edges([], [], [], num_nodes=1), 0) == {0}


# Stuck


@BOTH
@given(seed=SEEDS)
@settings(max_examples=10)
def test_stuck_sensors_repeat_what_they_said_when_the_test_part_began(
    make: Make, graph: Graph, protocol: str, seed: int
) -> None:
    arrays = make(protocol)
    values, heard, after, kept = compared(Stuck(), arrays, graph, seed)
    np.testing.assert_array_equal(kept, heard)
    stuck = np.flatnonzero((after != values).any((0, 2)))
    assert len(stuck) == 4
    start = arrays.cuts.test.start
    for node in stuck:
        for channel in range(2):
            told = [v for v in arrays.values[: start + 1, node, channel].tolist() if v != 0]
            assert set(after[heard[:, node, channel], node, channel]) == {told[-1]}


def test_a_sensor_not_heard_before_the_test_part_is_not_stuck(make: Make, graph: Graph) -> None:
    arrays = make()
    late = replace(arrays, values=arrays.values.clone(), usable=arrays.usable.clone())
    first = arrays.cuts.test.start + 1
    late.values[:first, :, 1], late.usable[:first, :, 1] = 0, False
    values, heard, after, kept = compared(Stuck(), late, graph)
    np.testing.assert_array_equal(after[..., 1], values[..., 1])
    np.testing.assert_array_equal(kept, heard)
    assert (after[..., 0] != values[..., 0]).any()


# Unit change


@BOTH
@pytest.mark.parametrize(("share", "count"), [(0.2, 4), (0.0, 1), (1.0, 20)])
def test_a_change_of_unit_scales_the_target_of_some_sensors(
    make: Make, graph: Graph, protocol: str, share: float, count: int
) -> None:
    values, heard, after, kept = compared(UnitChange(share), make(protocol), graph)
    np.testing.assert_array_equal(kept, heard)
    np.testing.assert_array_equal(after[..., 1], values[..., 1])
    changed = (after != values)[..., 0].any(0)
    assert changed.sum() == count
    seen = heard[:, changed, 0]
    np.testing.assert_allclose(after[:, changed, 0][seen], 1.609344 * values[:, changed, 0][seen], rtol=1e-6)
    np.testing.assert_array_equal(after[:, ~changed], values[:, ~changed])


# Clock shift


@BOTH
@pytest.mark.parametrize(("step", "late"), [("15min", 4), ("1h", 1), ("40min", 2), ("6h", 1), ("1d", 1)])
def test_readings_come_under_later_labels(make: Make, graph: Graph, protocol: str, step: str, late: int) -> None:
    values, heard, after, kept = compared(ClockShift(), make(protocol, step=step), graph)
    np.testing.assert_array_equal(after[late:], values[:-late])
    np.testing.assert_array_equal(kept[late:], heard[:-late])
    assert not after[:late].any() and not kept[:late].any()


def test_a_test_part_within_the_shift_is_refused(make: Make, graph: Graph) -> None:
    arrays = make(length=20)
    ClockShift(hours=9)(arrays, graph, seeded())
    with pytest.raises(InputError, match="its test part has 10 steps, but readings labelled late need 11"):
        ClockShift(hours=10)(arrays, graph, seeded())
