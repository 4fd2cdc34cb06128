"""The published network: its size, its arithmetic against a plain copy of the formulas, and what the calendar adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu

from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stgnn import STGNN
from st_pipeline.models.base import count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import NodeSet, SeriesShape, Window

PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=8, steps_per_day=288)
PEMS = {655: 7310, 715: 7670, 786: 8096, 822: 8312, 834: 8384, 850: 8480, 871: 8606}


def published(weights: dict[str, Tensor], x: Tensor, adjacency: Tensor, prompt: Tensor) -> Tensor:
    """Forecast (B, H, N) of EAC's network from x (B, N, 12), as continual-methods, section 2.1, has it."""
    batch, nodes, _ = x.shape
    operator = adjacency / (adjacency.sum(1, keepdim=True) + 1e-6)

    def gcn(h: Tensor, name: str) -> Tensor:
        mixed = operator @ h @ weights[f"{name}.neighbour.weight"].T + weights[f"{name}.neighbour.bias"]
        return mixed + h @ weights[f"{name}.own.weight"].T

    h = torch.relu(gcn(x + prompt, "gcn1"))
    h = conv1d(h.reshape(batch * nodes, 1, -1), weights["tcn.weight"], weights["tcn.bias"], padding=1)
    z = gcn(h.reshape(batch, nodes, -1), "gcn2")
    out = gelu(z + x) @ weights["fc.weight"].T + weights["fc.bias"]
    return out.transpose(1, 2)


def scaled(model: nn.Module, factor: float) -> nn.Module:
    """Larger prompts than a model starts with, so that what they do is seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


def test_the_published_form_has_3308_parameters() -> None:
    model = backbones.build({"name": "stgnn"}, shape=PUBLISHED)
    assert count_parameters(model) == 3308
    sizes = {name: count_parameters(part) for name, part in model.named_children()}
    assert sizes == {"gcn1": 1600, "tcn": 4, "gcn2": 1548, "fc": 156}


@pytest.mark.parametrize("rank", [2, 6])
@pytest.mark.parametrize(("nodes", "total"), PEMS.items())
def test_prompted_sizes_are_the_published_ones(nodes: int, total: int, rank: int) -> None:
    model = PromptPool(STGNN(replace(PUBLISHED, num_nodes=655)), rank=rank)
    model.expand(NodeSet.of(map(str, range(655))))
    model.expand(NodeSet.of(map(str, range(nodes))))
    assert count_parameters(model) == 3308 + rank * (nodes + 12)
    assert rank != 6 or count_parameters(model) == total


def test_the_forecast_is_that_of_the_published_formulas(random_window, random_graph) -> None:
    model, graph, window = STGNN(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    x = window.values[..., 0].transpose(1, 2)
    expected = published(model.state_dict(), x, graph.dense(), torch.zeros(8, 12))
    torch.testing.assert_close(model(window, graph), expected, rtol=0, atol=1e-6)


def test_the_prompt_enters_before_the_first_convolution_and_not_the_residual(random_window, random_graph) -> None:
    torch.manual_seed(0)
    inner = STGNN(PUBLISHED)
    model, graph, window = PromptPool(inner, rank=6), random_graph(8), random_window(PUBLISHED)
    scaled(model.prompts, 5)
    x = window.values[..., 0].transpose(1, 2)
    expected = published(inner.state_dict(), x, graph.dense(), model.prompts.nodes() @ model.prompts.basis)
    torch.testing.assert_close(model(window, graph), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(expected, inner(window, graph), atol=1e-3)


@pytest.mark.parametrize("hidden", [5, 32])
def test_the_hidden_width_is_an_option(random_window, random_graph, hidden: int) -> None:
    model = backbones.build({"name": "stgnn", "hidden": hidden}, shape=PUBLISHED)
    assert model.gcn2.own.in_features == hidden
    assert model(random_window(PUBLISHED), random_graph(8)).shape == (3, 12, 8)


def test_without_a_calendar_neither_time_nor_mask_is_read(random_window, random_graph) -> None:
    model, graph, window = STGNN(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    other = Window(window.values, ~window.observed, window.time_of_day + 1, window.day_of_week.flip(0))
    assert torch.equal(model(window, graph), model(other, graph))


@pytest.mark.parametrize("name", ["time_of_day", "day_of_week"])
def test_a_calendar_reads_the_moment_at_which_the_forecast_begins(random_window, random_graph, name: str) -> None:
    model, graph, window = STGNN(PUBLISHED, calendar=True), random_graph(8), random_window(PUBLISHED)
    forecast, own = model(window, graph), getattr(window, name)
    begins = torch.arange(24) == 12
    elsewhere, there = torch.where(begins, own, (own + 1) % 7), torch.where(begins, (own + 1) % 7, own)
    assert torch.equal(model(window._replace(**{name: elsewhere}), graph), forecast)
    assert not torch.isclose(model(window._replace(**{name: there}), graph), forecast).all()


def test_a_calendar_tells_a_measured_zero_from_a_missing_cell(random_window, random_graph) -> None:
    model, graph, window = STGNN(PUBLISHED, calendar=True), random_graph(8), random_window(PUBLISHED)
    assert not torch.equal(model(window, graph), model(window._replace(observed=~window.observed), graph))


@pytest.mark.parametrize("horizon", [3, 6, 9])
def test_lagged_channels_reach_their_own_forecast_step(random_window, random_graph, horizon: int) -> None:
    shape = SeriesShape(window=6, horizon=horizon, channels=5, num_nodes=4, steps_per_day=24, lags=2)
    model, window = STGNN(shape, calendar=True), random_window(shape)
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.zero_()
    forecast = model(window, random_graph(4))
    steps = min(horizon, 6)
    torch.testing.assert_close(forecast[:, :steps], window.values[:, :steps, :, 3:].mean(-1))
    assert not forecast[:, steps:].any()


def test_the_latest_value_of_every_channel_has_a_way_past_the_network(random_window, random_graph) -> None:
    shape = SeriesShape(window=6, horizon=3, channels=2, num_nodes=4, steps_per_day=24)
    model, window = STGNN(shape, calendar=True), random_window(shape)
    with torch.no_grad():
        for part in (model.fc.weight, model.fc.bias):
            part.zero_()
        model.calendar.latest.copy_(torch.tensor([[1.0, 2, 3], [0, 0, 10]]))
    last = window.values[:, -1]
    expected = torch.stack([last[..., 0], 2 * last[..., 0], 3 * last[..., 0] + 10 * last[..., 1]], dim=1)
    torch.testing.assert_close(model(window, random_graph(4)), expected)


def test_context_columns_are_filled_by_prompts_alone(random_window, random_graph) -> None:
    model = STGNN(PUBLISHED, context=4)
    window, graph = random_window(PUBLISHED), random_graph(8)
    embedding = model.embed(window, graph)
    assert model.width == embedding.shape[-1] == 16
    assert not embedding[..., 12:].any()
    assert PromptPool(model, rank=3).embed(window, graph)[..., 12:].all()
