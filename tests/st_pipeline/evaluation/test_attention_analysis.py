"""Shares of attention are those of the model's own attention graph, added up by sensor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.evaluation import attention_analysis
from st_pipeline.evaluation.attention_analysis import attention_shares, pair_shares, sensor_shares
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import ReLearner
from st_pipeline.types import Graph, NodeSet, SeriesShape, Window

NODES = 5
SHAPE = SeriesShape(window=4, horizon=3, channels=1, num_nodes=NODES, steps_per_day=24)
SMALL = {"hidden": 8, "heads": 2, "layers": 2, "encoder": 1, "feedforward": 12, "keep": 3, "near": 2, "recent": 2}
IDS = NodeSet.of("vwxyz")
SHARES = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.1, 0.6, 0.3]], dtype=torch.float64)


def build(shape: SeriesShape = SHAPE, **options: Any) -> Forecaster:
    torch.manual_seed(0)
    model = backbones.build({"name": "st_trans", **SMALL, "nodes": 2, **options}, shape=shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("search", ["exact", "two_stage", "dense"])
def test_shares_are_the_mean_over_windows_steps_and_layers(search: str, random_window, random_graph) -> None:
    model, window, graph = build(search=search).train(), random_window(SHAPE), random_graph(NODES)
    found = attention_shares(model, [window], graph)
    expected = torch.zeros(NODES, NODES, dtype=torch.float64)
    layers = model.eval().attention(window, graph)
    for layer in layers:
        for asked in range(NODES):
            for node, weight in zip(layer.node[:, asked].flatten(), layer.weight[:, asked].flatten(), strict=True):
                expected[asked, node] += float(weight) / (len(layers) * 3 * SHAPE.horizon)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    if search != "dense":
        torch.testing.assert_close(found.sum(1), torch.ones(NODES, dtype=torch.float64))
    assert (found.sum(1) <= 1 + 1e-6).all()


def test_windows_count_alike_however_they_come(random_window, random_graph) -> None:
    model, window, graph = build(), random_window(SHAPE), random_graph(NODES)
    parts = [Window(*(part[rows] for part in window)) for rows in (slice(0, 1), slice(1, 3))]
    together, apart = (attention_shares(model, windows, graph) for windows in ([window], parts))
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-6)


def test_the_mode_of_the_model_stays(random_window, random_graph) -> None:
    model = build(dropout=0.5).train()
    one, other = (attention_shares(model, [random_window(SHAPE)], random_graph(NODES)) for _ in range(2))
    assert torch.equal(one, other)
    assert all(part.training for part in model.modules())


def test_what_prompts_add_is_attended_to(random_window, random_graph) -> None:
    bare, window, graph = build(), random_window(SHAPE), random_graph(NODES)
    prompted = PromptPool(bare, rank=2)
    with torch.no_grad():
        prompted.prompts.basis.mul_(40)
    wrapped = ReLearner(prompted)

    def shares(model: Forecaster) -> Tensor:
        return attention_shares(model, [window], graph)

    assert not torch.allclose(shares(prompted), shares(bare), atol=1e-3)
    assert torch.equal(shares(wrapped), shares(prompted))
    hidden = prompted.embed(window, graph)
    weights = bare.eval().attention(window, graph, hidden)[0].weight
    assert not torch.allclose(weights, bare.attention(window, graph)[0].weight, atol=1e-3)


def test_without_a_search_every_sensor_reads_itself(random_window, random_graph) -> None:
    shares = attention_shares(build(search="none"), [random_window(SHAPE)], random_graph(NODES))
    assert torch.equal(shares, torch.eye(NODES, dtype=torch.float64))
    assert pair_shares(shares, IDS).is_empty()
    assert sensor_shares(shares, IDS)["own"].to_list() == [1.0] * NODES


def test_one_sensor_reads_itself(random_window) -> None:
    shape = replace(SHAPE, num_nodes=1)
    graph = Graph.from_edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), num_nodes=1)
    shares = attention_shares(build(shape), [random_window(shape)], graph)
    torch.testing.assert_close(shares, torch.ones(1, 1, dtype=torch.float64))
    assert pair_shares(shares, NodeSet.of("a")).is_empty()


def test_another_backbone_is_refused(random_window, random_graph) -> None:
    model = backbones.build("stgnn", shape=SHAPE)
    with pytest.raises(InputError, match="this model has no attention graph; give it `backbone: st_trans`"):
        attention_shares(model, [random_window(SHAPE)], random_graph(NODES))


def test_a_sensor_s_attention_is_its_own_that_to_others_and_that_of_others() -> None:
    table = sensor_shares(SHARES, NodeSet.of("abc"))
    assert table["sensor_id"].to_list() == ["a", "b", "c"]
    assert table["own"].to_list() == pytest.approx([0.5, 1.0, 0.3])
    assert table["others"].to_list() == pytest.approx([0.5, 0.0, 0.7])
    assert table["read_by"].to_list() == pytest.approx([0.1, 0.9, 0.2])
    assert table["read_by"].sum() == pytest.approx(table["others"].sum())


def test_pairs_come_by_sensor_the_most_attended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = NodeSet.of("abc")
    rows = [("a", "b", 0.3), ("a", "c", 0.2), ("c", "b", 0.6), ("c", "a", 0.1)]
    assert pair_shares(SHARES, nodes).rows() == rows
    monkeypatch.setattr(attention_analysis, "MOST_READ", 1)
    assert pair_shares(SHARES, nodes).rows() == [rows[0], rows[2]]
