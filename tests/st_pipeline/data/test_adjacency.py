"""The adjacency of a period: raw weights by id, positions of its last day, numbers of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import networkx as nx
import numpy as np
import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY, Adjacency, build_adjacency, graph_statistics
from st_pipeline.data.graphs import graph_recipes
from st_pipeline.errors import InputError

MakeStream = Callable[..., StreamConfig]
MakeTable = Callable[..., pl.DataFrame]
PLACES = {"a": 0.0, "b": 100.0, "c": 250.0, "d": 1000.0}
RECIPES: dict[str, dict[str, Any]] = {
    "gaussian": {"sigma": 200},
    "knn": {"k": 1},
    "edges": {},
    "distances": {},
    "none": {},
}


@pytest.fixture
def build(make_stream: MakeStream, make_sensors: MakeTable, make_edges: MakeTable) -> Callable[..., Adjacency]:
    def make(ids: str, *, period: int = 0, sensors: pl.DataFrame | None = None, **graph: Any) -> Adjacency:
        config = make_stream(graph=graph)
        table = make_sensors(*({"sensor_id": name, "x": x, "y": 0.0} for name, x in PLACES.items()))
        return build_adjacency(
            tuple(ids),
            sensors=table if sensors is None else sensors,
            edges=make_edges(("a", "b", 100.0, 2.0), ("b", "c", 150.0, 3.0), ("d", "a", 1000.0, 1.0)),
            config=config,
            period=config.calendar.periods()[period],
        )

    return make


def graph_of(edges: Mapping[tuple[str, str], float], ids: str) -> Adjacency:
    pairs = sorted((ids.index(one), ids.index(two), weight) for (one, two), weight in edges.items())
    row, column, weight = (np.array(part) for part in zip(*pairs, strict=True)) if pairs else [np.zeros(0)] * 3
    return Adjacency("1", tuple(ids), {}, row.astype(np.int64), column.astype(np.int64), weight.astype(np.float32))


def test_every_recipe_is_tried() -> None:
    assert set(RECIPES) == set(graph_recipes.names())


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_belong_to_sensors_whatever_the_order_of_the_nodes(
    build: Callable[..., Adjacency], recipe: str
) -> None:
    one, other = (build(ids, recipe=recipe, **RECIPES[recipe]) for ids in ("abcd", "dbac"))
    assert one.by_name() == other.by_name()
    assert bool(one.by_name()) == (recipe != "none")
    for found in (one, other):
        assert np.array_equal(np.lexsort((found.column, found.row)), np.arange(len(found.row)))
        graph = found.graph()
        assert np.array_equal(graph.dense().numpy()[found.row, found.column], found.weight)
        assert (found.row.dtype, found.weight.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("ids", ["", "a"])
def test_a_network_of_one_sensor_or_none_has_no_edges(build: Callable[..., Adjacency], recipe: str, ids: str) -> None:
    found = build(ids, recipe=recipe, **RECIPES[recipe])
    assert found.by_name() == {}
    assert graph_statistics(found, None)["components"] == len(ids)


@pytest.mark.parametrize(("moved_on", "together"), [("2024-01-01", True), ("2024-01-21", True), ("2024-01-22", False)])
def test_positions_are_those_of_the_last_day_of_the_period(
    build: Callable[..., Adjacency], make_sensors: MakeTable, moved_on: str, together: bool
) -> None:
    sensors = make_sensors(
        {"sensor_id": "a", "x": 0.0, "y": 0.0},
        {"sensor_id": "b", "x": 900.0, "y": 0.0},
        {"sensor_id": "b", "x": 5.0, "y": 0.0, "valid_from": date.fromisoformat(moved_on)},
        *({"sensor_id": name} for name in "cd"),
    )
    found = build("ab", sensors=sensors, recipe="gaussian", sigma=10.0)
    assert bool(found.by_name()) == together
    assert build("ab", period=1, sensors=sensors, recipe="gaussian", sigma=10.0).by_name()


def test_edges_of_unknown_sensors_are_refused(build: Callable[..., Adjacency], make_sensors: MakeTable) -> None:
    sensors = make_sensors({"sensor_id": "a"}, {"sensor_id": "b"})
    with pytest.raises(
        InputError, match=r"'small': the edges name 2 sensors that the sensor table has not, e\.g\. 'c'"
    ):
        build("ab", sensors=sensors, recipe="edges")
    assert build("ab", sensors=make_sensors(), recipe="edges").by_name() == {("a", "b"): 2}


@pytest.mark.parametrize("seed", range(4))
def test_statistics_are_those_of_networkx(seed: int) -> None:
    random = nx.gnp_random_graph(9, 0.12, seed=seed, directed=True)
    edges = {("abcdefghi"[one], "abcdefghi"[two]): 0.5 for one, two in random.edges}
    numbers = graph_statistics(graph_of(edges, "abcdefghi"), None)
    degrees = [degree for _, degree in random.out_degree]
    assert numbers == {
        "nodes": 9,
        "edges": random.number_of_edges(),
        "mean_degree": pytest.approx(np.mean(degrees)),
        "largest_degree": max(degrees),
        "isolated": nx.number_of_isolates(random),
        "components": nx.number_weakly_connected_components(random),
        "mean_weight": 0.5,
    }


def test_the_difference_to_the_previous_period_goes_by_sensor() -> None:
    before = graph_of({("a", "b"): 1.0, ("b", "c"): 2.0, ("c", "a"): 3.0}, "abc")
    after = graph_of({("c", "a"): 3.0, ("b", "c"): 2.5, ("d", "a"): 1.0, ("a", "d"): 1.0}, "cadb")
    numbers = graph_statistics(after, before)
    assert [numbers[f"edges_{name}"] for name in ("added", "removed", "reweighted")] == [2, 1, 1]


@pytest.mark.parametrize("recipe", ["knn", "none"])
def test_an_adjacency_survives_storage(build: Callable[..., Adjacency], recipe: str) -> None:
    found = build("bad", recipe=recipe)
    again = ADJACENCY.load(ADJACENCY.dump(found))
    assert (again.period, again.sensor_ids, again.recipe) == (found.period, ("b", "a", "d"), {"name": recipe})
    assert again.by_name() == found.by_name()
    assert ADJACENCY.dump(again) == ADJACENCY.dump(found)
