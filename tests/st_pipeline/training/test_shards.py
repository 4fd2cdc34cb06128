"""Forecasts by shards are those of the whole network; a shard that lacks a ring of neighbours shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.training.forecasts import evaluating, forecasts
from st_pipeline.training.pieces import Workers
from st_pipeline.training.shards import Shard, map_shards, shards_of
from st_pipeline.types import Graph, NodeSet, SeriesShape

NODES = 40
HOPS = {"dlinear": 0, "gru": 0, "pecpm": 2, "stgnn": 2, "stid": 0, "stkec": 2}
CALENDAR = {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2}
CPU = torch.device("cpu")


def sparse(nodes: int, seed: int, edges: int) -> Graph:
    random = np.random.default_rng(seed)
    row, column = random.integers(nodes, size=(2, edges))
    return Graph.from_edges(row, column, random.uniform(0.1, 1, edges), num_nodes=nodes)


@pytest.fixture
def build(make_part) -> Callable[..., tuple[Forecaster, Any]]:
    """`build(spec)`: a prompted model with weights drawn apart from zero, and a part of a random period."""

    def make(spec: dict[str, Any]) -> tuple[Forecaster, Any]:
        part = make_part(nodes=NODES, length=120)
        torch.manual_seed(0)
        shape = SeriesShape(part.windows.window, part.windows.horizon, 1, NODES, 24)
        model = PromptPool(backbones.build(spec, shape=shape), rank=2)
        model.expand(NodeSet.of(f"s{row:03d}" for row in range(NODES)))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model, part

    return make


def by_shards(model: Forecaster, part: Any, graph: Graph, shards: list[Shard]) -> torch.Tensor:
    """(S, H, N), with NaN where no shard has a forecast."""
    whole = torch.full((len(part.starts), part.windows.horizon, NODES), torch.nan)
    found = map_shards(model, part, graph, shards, lambda *cells: cells[0], device=CPU, workers=Workers(), most=7)
    for shard, pieces in found:
        whole[..., shard.nodes] = torch.cat(pieces)
    return whole


def whole_of(model: Forecaster, part: Any, graph: Graph) -> torch.Tensor:
    with evaluating(model):
        return torch.cat([forecast for forecast, _, _ in forecasts(model, part, graph)])


def test_every_backbone_that_states_its_hops_is_tested_here(make_part) -> None:
    shape = SeriesShape(6, 4, 1, NODES, 24)
    stated = {name: backbones.build({"name": name}, shape=shape).hops for name in backbones.names()}
    assert {name: hops for name, hops in stated.items() if hops is not None} == HOPS


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize(
    "spec", [*({"name": name} for name in HOPS), CALENDAR], ids=lambda spec: "-".join(map(str, spec.values()))
)
def test_shards_have_the_forecasts_of_the_whole(build, spec, count: int, seed: int) -> None:
    model, part = build(spec)
    graph = sparse(NODES, seed, edges=50)
    shards = shards_of(graph, count, hops=model.hops)
    assert count == 1 or min(len(shard.rows) for shard in shards) < NODES
    wanted = whole_of(model, part, graph)
    torch.testing.assert_close(by_shards(model, part, graph, shards), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, hops in HOPS.items() if hops])
def test_a_ring_too_few_gives_other_forecasts(build, name: str) -> None:
    model, part = build({"name": name})
    graph = sparse(NODES, 0, edges=80)
    found = by_shards(model, part, graph, shards_of(graph, 4, hops=model.hops - 1))
    assert (found - whole_of(model, part, graph)).abs().max() > 0.1


@given(st.integers(1, 30), st.integers(0, 60), st.integers(1, 8), st.integers(0, 3), st.integers(0, 9))
def test_every_node_is_forecast_once_among_all_that_are_near(
    nodes: int, edges: int, count: int, hops: int, seed: int
) -> None:
    graph = sparse(nodes, seed, edges)
    shards = shards_of(graph, count, hops=hops)
    assert sorted(node for shard in shards for node in shard.nodes.tolist()) == list(range(nodes))
    links = graph.dense() + graph.dense().T + torch.eye(nodes) > 0
    for shard in shards:
        near = torch.zeros(nodes, dtype=torch.bool)
        near[shard.nodes] = True
        for _ in range(hops):
            near = (links.float() @ near.float()) > 0
        assert shard.rows.tolist() == near.nonzero()[:, 0].tolist()


def test_a_road_is_cut_across() -> None:
    road = torch.randperm(60, generator=torch.Generator().manual_seed(0))  # neighbours have unrelated numbers
    graph = Graph.from_edges(road[:-1], road[1:], torch.ones(59), num_nodes=60)
    assert max(len(shard.rows) for shard in shards_of(graph, 3, hops=2)) == 20 + 2 * 2
