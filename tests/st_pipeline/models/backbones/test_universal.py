"""Six backbones in two wirings: their sizes, their arithmetic against dense copies, and what each depends on."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, linear

from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.stgnn import STGNN
from st_pipeline.models.backbones.universal import Universal
from st_pipeline.models.base import count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.types import NodeSet, SeriesShape, Window

NODES = 6
SHAPE = SeriesShape(window=12, horizon=12, channels=1, num_nodes=NODES, steps_per_day=288)
OTHER = SeriesShape(window=5, horizon=3, channels=2, num_nodes=NODES, steps_per_day=24)
PUBLISHED = {
    ("spatial", "convolution"): 3308,
    ("spatial", "recurrence"): 36584,
    ("spatial", "attention"): 19944,
    ("spectral", "convolution"): 4844,
    ("spectral", "recurrence"): 38120,
    ("spectral", "attention"): 21480,
}
PAPER = {
    ("spatial", "convolution"): 12701,
    ("spatial", "recurrence"): 33629,
    ("spatial", "attention"): 16989,
    ("spectral", "convolution"): 12957,
    ("spectral", "recurrence"): 33885,
    ("spectral", "attention"): 17245,
}
VARIANTS = [(*combination, published) for combination, published in product(PUBLISHED, (True, False))]


def make(variant: tuple[str, str, bool], shape: SeriesShape = SHAPE, **options: Any) -> Universal:
    torch.manual_seed(0)
    graph, temporal, published = variant
    spec = {"name": "universal", "graph": graph, "temporal": temporal, "published": published, "hidden": 16, **options}
    return backbones.build(spec, shape=shape)


@pytest.fixture(params=VARIANTS, ids=lambda it: f"{it[0]}-{it[1]}-{'published' if it[2] else 'paper'}")
def variant(request: pytest.FixtureRequest) -> tuple[str, str, bool]:
    return request.param


def graph_term(weights: dict[str, Tensor], name: str, h: Tensor, adjacency: Tensor, published: bool) -> Tensor:
    """One dense graph convolution of h (B, N, F)."""
    one, degree = torch.eye(len(adjacency)), adjacency.sum(1) + 1e-6
    row, symmetric = adjacency / degree[:, None], adjacency / torch.outer(degree, degree).sqrt()
    if f"{name}.neighbour.weight" in weights:
        own = linear(h, weights[f"{name}.own.weight"])
        return linear(row @ h, weights[f"{name}.neighbour.weight"], weights[f"{name}.neighbour.bias"]) + own
    if f"{name}.linear.weight" in weights:
        return linear(symmetric @ h, weights[f"{name}.linear.weight"], weights[f"{name}.linear.bias"])
    first = row if published else (one - symmetric) - one
    polynomials = (one, first, 2 * first @ first - one)
    terms = [matrix @ h @ weight for matrix, weight in zip(polynomials, weights[f"{name}.weight"], strict=True)]
    return sum(terms) + weights[f"{name}.bias"]


def torchs_own(temporal: str, weights: dict[str, Tensor]) -> nn.Module:
    """The operator as torch has it, sequences first, with the same weights."""
    prefix = "temporal.layer."
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if temporal == "recurrence":
        layer: nn.Module = nn.LSTM(16, 16, batch_first=True)
        layer.load_state_dict({name.removeprefix("lstm."): value for name, value in own.items()})
        return layer
    layer = nn.MultiheadAttention(16, 4)  # the first axis is the sequence
    names = {"in_proj_weight": "in_weight", "in_proj_bias": "in_bias"}
    names |= {"out_proj.weight": "out_weight", "out_proj.bias": "out_bias"}
    layer.load_state_dict({theirs: own[mine] for theirs, mine in names.items()})
    return layer


def published_middle(temporal: str, weights: dict[str, Tensor], h: Tensor) -> Tensor:
    """(B, N, D) -> (B, N, D), each operator called as the public code calls it (continual-methods, section 2.2)."""
    if temporal == "convolution":
        rows = h.reshape(-1, 1, h.shape[-1])
        return conv1d(rows, weights["temporal.weight"], weights["temporal.bias"], padding=1).reshape(h.shape)
    layer = torchs_own(temporal, weights)
    return layer(h)[0] if temporal == "recurrence" else layer(h, h, h)[0]


def paper_middle(temporal: str, weights: dict[str, Tensor], h: Tensor) -> Tensor:
    """(T, B, N, D) -> (T, B, N, D), one node of one window at a time along T."""
    out = torch.empty_like(h)
    for window, node in product(range(h.shape[1]), range(h.shape[2])):
        series = h[:, window, node]
        if temporal == "convolution":
            weight, bias = weights["temporal.layer.conv.weight"], weights["temporal.layer.conv.bias"]
            out[:, window, node] = conv1d(series.T[None], weight, bias, padding=1)[0].T
        elif temporal == "recurrence":
            out[:, window, node] = torchs_own(temporal, weights)(series)[0]
        else:
            out[:, window, node] = torchs_own(temporal, weights)(series, series, series)[0]
    return out


def plain(
    variant: tuple[str, str, bool], model: Universal, window: Window, adjacency: Tensor, prompt: Tensor
) -> Tensor:
    """Forecast (B, H, N) from the formulas alone, dense and unhurried."""
    _, temporal, published = variant
    weights, values = model.state_dict(), window.values
    batch, steps, nodes, channels = values.shape
    flat = values.permute(0, 2, 3, 1).reshape(batch, nodes, channels * steps) + prompt
    if published:
        h = torch.relu(graph_term(weights, "gcn1", flat, adjacency, published))
        z = graph_term(weights, "gcn2", published_middle(temporal, weights, h), adjacency, published)
    else:
        each = flat.view(batch, nodes, channels, steps).unbind(-1)
        h = torch.stack([torch.relu(graph_term(weights, "gcn1", step, adjacency, published)) for step in each])
        middle = paper_middle(temporal, weights, h)
        z = torch.cat([graph_term(weights, "gcn2", step, adjacency, published) for step in middle], dim=-1)
    out = linear(gelu(z + values[..., 0].transpose(1, 2)), weights["fc.weight"], weights["fc.bias"])
    return out.transpose(1, 2)


@pytest.mark.parametrize(("sizes", "published"), [(PUBLISHED, True), (PAPER, False)], ids=["published", "paper"])
def test_the_sizes_are_those_of_the_table(sizes: dict[tuple[str, str], int], published: bool) -> None:
    found = {combination: count_parameters(make((*combination, published), hidden=64)) for combination in sizes}
    assert found == sizes


def test_the_middle_is_a_part_that_can_be_named() -> None:
    sizes = {
        temporal: count_parameters(make(("spatial", temporal, True), hidden=64).temporal) for _, temporal in PUBLISHED
    }
    assert sizes == {"convolution": 4, "recurrence": 33280, "attention": 16640}


@pytest.mark.parametrize("shape", [SHAPE, OTHER], ids=["published", "other"])
def test_the_forecast_is_that_of_the_formulas(variant, shape, random_window, random_graph) -> None:
    model, window, graph = make(variant, shape), random_window(shape), random_graph(NODES)
    prompt = torch.randn(NODES, model.width)
    expected = plain(variant, model, window, graph.dense(), prompt)
    torch.testing.assert_close(model.prompted(prompt, window, graph), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, OTHER], ids=["published", "other"])
def test_published_spatial_convolution_is_stgnn(shape, random_window, random_graph) -> None:
    stgnn = STGNN(shape)
    model = make(("spatial", "convolution", True), shape, hidden=64)
    model.load_state_dict({name.replace("tcn.", "temporal."): value for name, value in stgnn.state_dict().items()})
    window, graph = random_window(shape), random_graph(NODES)
    torch.testing.assert_close(model(window, graph), stgnn(window, graph), rtol=0, atol=1e-5)
    prompt = torch.randn(NODES, model.width)
    found = model.prompted(prompt, window, graph)
    torch.testing.assert_close(found, stgnn.prompted(prompt, window, graph), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_nodes", [1, 5, 9])
def test_any_network_can_be_forecast_bare_and_prompted(variant, num_nodes: int, random_window, random_graph) -> None:
    model = make(variant, OTHER)
    pool = PromptPool(model, rank=2)
    pool.expand(NodeSet.of(map(str, range(num_nodes))))
    window, graph = random_window(replace(OTHER, num_nodes=num_nodes)), random_graph(num_nodes)
    assert model.embed(window, graph).shape == (3, num_nodes, model.width)
    for forecaster in (model, pool):
        forecast = forecaster(window, graph)
        assert forecast.shape == (3, 3, num_nodes)
        assert forecast.isfinite().all()


def test_windows_whose_memory_has_nodes_first_give_the_same(variant, random_window, random_graph) -> None:
    model, window, graph = make(variant, OTHER), random_window(OTHER), random_graph(NODES)
    nodes_first = window.values.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    found = model(window._replace(values=nodes_first), graph)
    torch.testing.assert_close(found, model(window, graph), rtol=1e-4, atol=1e-5)


def test_a_step_reaches_every_parameter_and_the_loss_falls(variant, random_window, random_graph) -> None:
    model, window, graph = make(variant), random_window(SHAPE), random_graph(NODES)
    truth = window.values[..., 0].flip(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = ((model(window, graph) - truth) ** 2).mean()
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
            assert parameter.grad.isfinite().all(), name
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_prompts_learn_behind_a_frozen_backbone_alone_or_with_the_middle(variant, random_window, random_graph) -> None:
    pool = PromptPool(make(variant), rank=2)
    window, graph = random_window(SHAPE), random_graph(NODES)
    for middle in (False, True):
        pool.inner.requires_grad_(False)
        pool.inner.temporal.requires_grad_(middle)
        pool.zero_grad()
        pool(window, graph).square().sum().backward()
        reached = {name for name, parameter in pool.named_parameters() if parameter.grad is not None}
        trainable = {name for name, parameter in pool.named_parameters() if parameter.requires_grad}
        assert reached == trainable
        assert pool.prompts.basis.grad.any()


def test_the_order_of_the_sensors_matters_to_the_published_recurrence_alone(
    variant, random_window, random_graph
) -> None:
    model, window, graph = make(variant), random_window(SHAPE), random_graph(NODES)
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))
    shuffled = model(window._replace(values=window.values[:, :, order]), graph.subgraph(order))
    same = torch.allclose(shuffled, model(window, graph)[..., order], rtol=1e-4, atol=1e-5)
    assert same == (variant[1:] != ("recurrence", True))


def test_the_other_windows_of_a_batch_matter_to_the_published_attention_alone(
    variant, random_window, random_graph
) -> None:
    model, window, graph = make(variant), random_window(SHAPE), random_graph(NODES)
    alone = torch.cat([model(Window(*(part[at : at + 1] for part in window)), graph) for at in range(3)])
    same = torch.allclose(alone, model(window, graph), rtol=1e-4, atol=1e-5)
    assert same == (variant[1:] != ("attention", True))
    assert same == model.separable == model.divisible
    assert PromptPool(model, rank=2).separable == same


def test_the_order_of_the_steps_matters_to_every_operator(variant, random_window, random_graph) -> None:
    model, window, graph = make(variant), random_window(SHAPE), random_graph(NODES)
    backwards = model(window._replace(values=window.values.flip(1)), graph)
    assert not torch.allclose(backwards, model(window, graph), atol=1e-3)


def test_a_reset_leaves_nothing_of_what_was_learned(variant) -> None:
    model = make(variant)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset()
    for name, parameter in model.named_parameters():
        assert float(parameter.detach().abs().max()) <= 1, name


def test_a_model_on_no_device_has_the_same_width(variant) -> None:
    with torch.device("meta"):
        model = make(variant)
    steps = 1 if variant[2] else 12
    assert model.working_width == make(variant).working_width >= 16 * steps
    assert model.working_width < make(variant, hidden=32).working_width


@pytest.mark.parametrize("published", [True, False])
def test_attention_needs_a_width_that_its_heads_divide(published: bool) -> None:
    with pytest.raises(InputError, match=r"hidden is 30, expected a multiple of 4"):
        make(("spatial", "attention", published), hidden=30)
    assert count_parameters(make(("spatial", "recurrence", published), hidden=30)) > 0


@pytest.mark.parametrize(
    ("option", "value"), [("graph", "spacial"), ("temporal", "conv"), ("published", 1), ("hidden", 2.5)]
)
def test_an_option_that_does_not_exist_is_refused(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"backbone 'universal': option '{option}': found"):
        backbones.validate({"name": "universal", option: value})
