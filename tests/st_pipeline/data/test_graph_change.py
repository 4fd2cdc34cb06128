"""The difference of two graphs: none of the same one, whatever the order of the sensors."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data import graph_change as module
from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.graph_change import graph_change, spectral_distance

Edges = Mapping[tuple[str, str], float]
RING = {("a", "b"): 1.0, ("b", "c"): 0.5, ("c", "d"): 2.0, ("d", "a"): 1.0}


def graph_of(edges: Edges, ids: str) -> Adjacency:
    row, column = (np.array([ids.index(pair[end]) for pair in edges], np.int64) for end in (0, 1))
    return Adjacency("1", tuple(ids), {}, row, column, np.array(list(edges.values()), np.float32))


@given(st.permutations("abcd"), st.permutations("abcd"))
def test_the_same_graph_is_at_distance_zero_in_any_order(one: list[str], two: list[str]) -> None:
    change = graph_change(graph_of(RING, "".join(one)), graph_of(RING, "".join(two)))
    assert change["spectral_distance"] == pytest.approx(0, abs=1e-12)
    assert change["edges_added"] == change["edges_removed"] == change["edges_reweighted"] == 0
    assert change["mean_degree"] == change["mean_degree_before"] == 1


@given(st.sets(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")).filter(lambda pair: pair[0] != pair[1])))
def test_the_distance_is_that_of_the_spectra_and_the_same_from_both_sides(pairs: set[tuple[str, str]]) -> None:
    now, before = graph_of(dict.fromkeys(sorted(pairs), 1.0), "abcde"), graph_of(RING, "abcde")

    def spectrum(graph: Adjacency) -> np.ndarray:
        whole = nx.Graph()
        whole.add_nodes_from(graph.sensor_ids)
        for (one, two), weight in graph.by_name().items():
            known = whole.get_edge_data(one, two, {"weight": 0.0})["weight"]
            whole.add_edge(one, two, weight=known + weight / 2)
        return np.sort(nx.normalized_laplacian_spectrum(whole, weight="weight"))

    distance = spectral_distance(now, before)
    assert distance == pytest.approx(np.abs(spectrum(now) - spectrum(before)).mean(), abs=1e-9)
    assert distance == pytest.approx(spectral_distance(before, now))


def test_sensors_of_one_graph_alone_do_not_enter_the_distance() -> None:
    grown = graph_of({**RING, ("d", "e"): 3.0, ("e", "a"): 1.0}, "abcde")
    change = graph_change(grown, graph_of(RING, "abcd"))
    assert change["spectral_distance"] == pytest.approx(0, abs=1e-12)
    assert change["edges_added"] == 2
    assert graph_change(graph_of(RING, "abcd"), grown)["edges_removed"] == 2


def test_without_enough_in_common_there_is_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    ring, alone = graph_of(RING, "abcd"), graph_of({}, "a")
    assert spectral_distance(ring, alone) is None
    first = graph_change(ring, None)
    assert first["spectral_distance"] is first["edges_added"] is first["mean_degree_before"] is None
    assert first["edges"] == 4
    monkeypatch.setattr(module, "MOST_NODES", 3)
    assert spectral_distance(ring, ring) is None
