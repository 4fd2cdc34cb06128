"""ASTGCN: its size, its blocks written out densely, and what its forecast depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, layer_norm, linear

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.astgcn import ASTGCN, chebyshev
from st_pipeline.models.base import count_parameters
from st_pipeline.types import Graph, NodeSet, SeriesShape, Window

NODES = 6
SHAPE = SeriesShape(window=5, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
PEMS04 = SeriesShape(window=12, horizon=12, channels=1, num_nodes=307, steps_per_day=288)
SMALL = {"filters": 4, "rank": 2}


def make(shape: SeriesShape = SHAPE, **options: Any) -> ASTGCN:
    torch.manual_seed(0)
    return backbones.build({"name": "astgcn", **SMALL, **options}, shape=shape).eval()


def laplacian(graph: Graph) -> Tensor:
    """Scaled: 2 L / 2 - 1 of the normalised Laplacian of the symmetric graph."""
    adjacency = (graph.dense() + graph.dense().T) / 2
    degree = adjacency.sum(1) + 1e-6
    one = torch.eye(len(adjacency))
    return 2 * (one - adjacency / torch.outer(degree, degree).sqrt()) / 2 - one


def plain(model: ASTGCN, window: Window, graph: Graph) -> Tensor:
    """Forecast (B, H, N); the attentions have tests of their own."""
    weights, scaled, one = model.state_dict(), laplacian(graph), torch.eye(graph.num_nodes)
    polynomials = [one, scaled]
    while len(polynomials) < model.order:
        polynomials.append(2 * scaled @ polynomials[-1] - polynomials[-2])
    x = window.values.transpose(1, 2)  # (B, N, T, C)
    for place, block in enumerate(model.blocks):
        own = {name.removeprefix(f"blocks.{place}."): value for name, value in weights.items()}
        steps = torch.einsum("bst,bntc->bnsc", block.steps(x), x)
        shares = block.sensors(steps)
        source, h = steps if model.attended else x, torch.zeros(())
        for order, polynomial in enumerate(polynomials[: model.order]):
            part = slice(order * x.shape[-1], (order + 1) * x.shape[-1])
            gathered = torch.einsum("bij,bjtc->bitc", polynomial * shares, source)
            h = h + linear(gathered, own["weight.weight"][:, part])
        h = torch.relu(h)
        convolved = torch.stack(
            [conv1d(node.mT, own["time_conv.conv.weight"], own["time_conv.conv.bias"], padding=1).mT for node in h]
        )
        residual = linear(x, own["residual.weight"], own["residual.bias"])
        total = torch.relu(convolved + residual)
        x = layer_norm(total, total.shape[-1:], own["norm.weight"], own["norm.bias"])
    return linear(x.flatten(2), weights["fc.weight"], weights["fc.bias"]).transpose(1, 2)


def test_the_size_is_the_published_one_but_for_the_square_tables() -> None:
    with torch.device("meta"):
        size = count_parameters(backbones.build("astgcn", shape=PEMS04))
    square, low_rank = 2 * 307**2, 2 * 2 * 307 * 10  # V and b of the attention over sensors, in each of two blocks
    assert size == 97_595
    assert size + 2 * (square - low_rank) == 450_031


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"attended": True}, {"order": 1}, {"order": 2}, {"order": 5}, {"blocks": 3}], ids=str
)
def test_the_forecast_is_that_of_the_formulas(options: dict[str, Any], random_window, random_graph) -> None:
    model, window, graph = make(**options), random_window(SHAPE), random_graph(NODES)
    torch.testing.assert_close(model(window, graph), plain(model, window, graph), rtol=1e-4, atol=1e-5)


def test_the_polynomials_are_those_of_the_scaled_laplacian_within_its_spectrum(random_graph) -> None:
    graph = random_graph(NODES)
    values, vectors = torch.linalg.eigh(laplacian(graph))
    assert values.abs().max() <= 1
    for order, found in enumerate(chebyshev(graph, 4, like=values), start=1):
        expected = vectors @ torch.diag(torch.cos(order * torch.acos(values))) @ vectors.T
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_forecast_reaches_as_far_as_the_convolutions_but_the_attention_sees_all(random_window) -> None:
    chain = torch.arange(NODES - 1)
    graph = Graph.from_edges(chain, chain + 1, torch.ones(NODES - 1), num_nodes=NODES)
    window = random_window(SHAPE)
    other = window._replace(values=window.values.clone())
    other.values[:, :, 5] += 1
    reached = {}
    for uniform in (True, False):
        model = make(blocks=1)
        if uniform:
            model.blocks[0].sensors.mix.left.appended.zero_()  # S is 1 / N everywhere
        reached[uniform] = ((model(window, graph) - model(other, graph)).abs() > 1e-7).any(1).all(0).tolist()
    assert reached[True] == [False, False, False, True, True, True]  # two hops of the polynomial of order 2
    assert all(reached[False])


@torch.no_grad()
def test_a_new_sensor_leaves_the_attention_among_the_others_but_for_its_share(random_window, random_graph) -> None:
    model, window = make(), random_window(SHAPE)
    model.expand(NodeSet.of("abcdef"))
    before = model.blocks[0].sensors.mix().detach()
    model.expand(NodeSet.of("fbcxyz"))
    kept = model.blocks[0].sensors.mix()[:3, :3]
    torch.testing.assert_close(kept, before[[5, 1, 2]][:, [5, 1, 2]])
    assert model(window, random_graph(NODES)).isfinite().all()


def test_the_memory_counted_grows_with_what_is_kept() -> None:
    assert make(blocks=3).working_width == 3 * make(blocks=1).working_width == 3 * (5 * 4 + NODES)


def test_a_short_training_lowers_the_loss_and_goes_on_with_new_sensors(learned_twice) -> None:
    _, later = learned_twice({"name": "astgcn", **SMALL})
    assert later.under("weights")["blocks.1.sensors.bias.left.rows"].shape == (6, 2)


@pytest.mark.parametrize("option", ["filters", "blocks", "order", "rank"])
def test_options_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"backbone 'astgcn': {option} is 0, expected at least 1"):
        make(**{option: 0})
