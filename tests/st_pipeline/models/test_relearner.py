"""A ReLearner starts as the model inside, keeps to what every forecaster does, and meets labels in its losses alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.lora import LoRA
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import LabelWeights, ReLearner, apart
from st_pipeline.types import Graph, NodeSet, SeriesShape, Target, Window

NODES = 6
SHAPE = SeriesShape(window=4, horizon=6, channels=3, num_nodes=NODES, steps_per_day=24, lags=1)
BACKBONES: dict[str, dict[str, Any]] = {
    "stgnn": {"name": "stgnn"},
    "calendar": {"name": "stgnn", "hidden": 16, "calendar": True, "context": 2},
    "universal": {"name": "universal", "graph": "spectral", "temporal": "recurrence", "hidden": 8, "published": False},
    "attention": {"name": "universal", "temporal": "attention", "hidden": 8},
    "tfmoe": {"name": "tfmoe", "hidden": 4},
    "gru": {"name": "gru", "hidden": 8},
    "stgcn": {"name": "stgcn"},
    "stnorm": {"name": "stnorm", "hidden": 8},
    "dcrnn": {"name": "dcrnn", "hidden": 4, "layers": 1, "tau": 5},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "separate": {"share_core": False},
    "cores": {"cores": 2, "dropout": 0.0, "gate_by": "target", "kernels": ("adaptive", "adjacency", "reversed")},
    "stacked": {"reads": "stacked", "layers": 1},
    "embedding": {"reads": "embedding", "layers": 0},
    "labels": {"labels": LabelWeights()},
}
Make = Callable[..., ReLearner]


def build(
    backbone: str,
    *,
    prompted: bool = False,
    seed: int = 0,
    num_nodes: int = NODES,
    learned: bool = True,
    **options: Any,
) -> ReLearner:
    """A wrapped backbone whose correction has learned something, unless said otherwise."""
    torch.manual_seed(seed)
    shape = replace(SHAPE, num_nodes=num_nodes)
    inner: Forecaster = backbones.build(BACKBONES[backbone], shape=shape)
    if prompted:
        inner = PromptPool(inner, rank=2)
    model = ReLearner(inner, **{"hidden": 16, "rank": 3, **options})
    if learned:
        nn.init.normal_(model.correction.output.last.weight, std=0.1)
    return model.eval()


MADE = [*((name, "plain", False) for name in BACKBONES), *(("gru", name, True) for name in VARIANTS if name != "plain")]
MADE += [("calendar", "cores", True), ("calendar", "separate", True)]


@pytest.fixture(params=MADE, ids=lambda made: "-".join(map(str, made)))
def make(request: pytest.FixtureRequest) -> Make:
    backbone, variant, prompted = request.param
    return lambda **options: build(backbone, prompted=prompted, **{**VARIANTS[variant], **options})


@pytest.fixture
def model(make: Make) -> ReLearner:
    return make()


@pytest.fixture
def window(random_window) -> Window:
    return random_window(SHAPE)


@pytest.fixture
def graph(random_graph) -> Graph:
    return random_graph(NODES)


@pytest.fixture
def target() -> Target:
    generator = torch.Generator().manual_seed(3)
    size = (3, SHAPE.horizon, NODES)
    return Target(torch.randn(size, generator=generator), torch.rand(size, generator=generator) < 0.7)


def masked(forecast: Tensor, target: Target) -> Tensor:
    error = torch.where(target.observed, forecast - target.values, 0.0)
    return error.abs().sum() / target.observed.sum()


def names(count: int) -> NodeSet:
    return NodeSet.of(f"sensor {place}" for place in range(count))


# What it is


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backbone", ["calendar", "stgcn", "stnorm"])
def test_it_starts_as_the_model_inside(window, graph, backbone: str, variant: str) -> None:
    model = build(backbone, prompted=True, learned=False, **VARIANTS[variant])
    torch.testing.assert_close(model(window, graph), model.inner(window, graph), rtol=1e-5, atol=1e-5)
    other = build(backbone, learned=False, zero_init=False, **VARIANTS[variant])
    assert not torch.isclose(other(window, graph), other.inner(window, graph)).all()


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_can_be_wrapped(random_window, random_graph, name: str) -> None:
    shape = replace(SHAPE, num_nodes=3)
    window, graph = random_window(shape), random_graph(3)
    target = Target(torch.zeros(3, shape.horizon, 3), torch.ones(3, shape.horizon, 3, dtype=torch.bool))
    for share in (True, False):
        torch.manual_seed(0)
        model = ReLearner(backbones.build(name, shape=shape), share_core=share).eval()
        torch.testing.assert_close(model(window, graph), model.inner(window, graph), rtol=1e-5, atol=1e-5)
        nn.init.normal_(model.correction.output.last.weight)
        model.train().training_loss(window, target, graph, masked).backward()
        for part, parameter in model.correction.named_parameters():
            assert not parameter.numel() or (parameter.grad is not None and parameter.grad.isfinite().all()), part


def test_a_forecast_is_the_base_and_the_smoothed_outcome_of_the_residual(window, graph) -> None:
    for backbone, share in product(["stgnn", "gru"], [True, False]):
        model = build(backbone, share_core=share)
        inner, own = model.inner, model.correction
        shallow = inner.embed(window, graph)
        deep = inner.core(shallow, window, graph)
        core = inner.core if share else own.core
        smoothed = own.smoothing(core(shallow - own.inverse(deep), window, graph), graph)
        expected = inner.head(deep) + own.output(smoothed)
        torch.testing.assert_close(model(window, graph), expected)


def test_without_a_module_its_place_is_left_out(window, graph) -> None:
    for reads, layers in product(["embedding", "stacked"], [0, 2]):
        model = build("stgnn", reads=reads, layers=layers)
        inner, own = model.inner, model.correction
        shallow = inner.embed(window, graph)
        deep = inner.core(shallow, window, graph)
        second = inner.core(shallow if reads == "embedding" else own.inverse(deep), window, graph)
        smoothed = own.smoothing(second, graph) if layers else second
        torch.testing.assert_close(model(window, graph), inner.head(deep) + own.output(smoothed))
        assert (own.inverse is None, own.smoothing is None) == (reads == "embedding", layers == 0)


@pytest.mark.parametrize("backbone", ["calendar", "stgcn", "tfmoe"])
@pytest.mark.parametrize("options", [{}, {"cores": 2}, {"share_core": False}], ids=str)
def test_the_control_has_as_many_parameters(backbone: str, options: dict[str, Any]) -> None:
    one, other = build(backbone, **options), build(backbone, reads="stacked", **options)
    assert count_parameters(one) == count_parameters(other)
    assert one.state_dict().keys() == other.state_dict().keys()


def test_the_parameters_that_it_adds() -> None:
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=200, steps_per_day=288)
    model = ReLearner(backbones.build("stgnn", shape=shape))
    inverse, output = (12 + 1) * 48 + (48 + 1) * 12, (12 + 1) * 256 + (256 + 1) * 12
    assert count_parameters(model.parts()["relearner"]) == inverse + output + 200 * (10 + 1 + 1)
    separate = ReLearner(backbones.build("stgnn", shape=shape), share_core=False)
    assert count_parameters(separate) == count_parameters(model) + 3308 - 12 * 13


def test_prompts_reach_both_passes_and_it_may_lie_inside_them(window, graph) -> None:
    outside = build("calendar", prompted=True)
    pool = outside.inner
    inside = PromptPool(ReLearner(pool.inner, hidden=16, rank=3), rank=2).eval()
    inside.inner.correction, inside.prompts = outside.correction, pool.prompts
    torch.testing.assert_close(inside(window, graph), outside(window, graph), rtol=1e-4, atol=1e-5)
    found = outside.passes(outside.embed(window, graph), window, graph)
    bare = outside.passes(pool.inner.embed(window, graph), window, graph)
    torch.testing.assert_close(found.shallow - bare.shallow, pool.prompts().expand_as(found.shallow))
    assert not torch.isclose(found.second, bare.second).all()


# What every forecaster keeps to


def test_forward_is_embedding_core_and_head(model, window, graph) -> None:
    hidden = model.embed(window, graph)
    deep = model.core(hidden, window, graph)
    for representation, axes in ((hidden, model.shallow), (deep, model.deep)):
        assert representation.shape == (3, *axes[:-1], NODES, axes[-1])
    torch.testing.assert_close(model.head(deep), model(window, graph), rtol=1e-4, atol=1e-5)
    prompt = torch.randn(NODES, model.width)
    expected = model.head(model.core(hidden + prompt, window, graph))
    torch.testing.assert_close(model.prompted(prompt, window, graph), expected, rtol=1e-4, atol=1e-5)


def test_a_forecast_is_the_same_every_time_and_in_any_batch(model, window, graph) -> None:
    forecast = model(window, graph)
    assert torch.equal(forecast, model(window, graph))
    if model.separable:
        alone = model(Window(*(part[1:2] for part in window)), graph)
        torch.testing.assert_close(alone, forecast[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_nodes", [1, 9])
def test_it_takes_any_network(model, random_window, random_graph, num_nodes: int) -> None:
    for count in (num_nodes, NODES):
        model.expand(names(count))
        window = random_window(replace(SHAPE, num_nodes=count))
        window = window._replace(values=torch.zeros_like(window.values)) if count == 9 else window
        out = model(window, random_graph(count))
        assert out.shape == (3, SHAPE.horizon, count)
        assert out.isfinite().all()


def test_the_order_of_the_sensors_does_not_matter(make, window, graph) -> None:
    model = make()
    if not model.equivariant:
        pytest.skip("the model inside says that the order matters")
    model.expand(names(NODES))
    forecast = model(window, graph)
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))
    shuffled = window._replace(values=window.values[:, :, order], observed=window.observed[:, :, order])
    model.expand(NodeSet.of(names(NODES).ids[place] for place in order))
    torch.testing.assert_close(model(shuffled, graph.subgraph(order)), forecast[..., order], rtol=1e-4, atol=1e-4)


def test_the_working_width_covers_every_layer(model) -> None:
    wide = [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert model.working_width >= max(wide)
    assert model.working_width >= 2 * model.inner.working_width


def test_a_model_is_stored_and_restored_part_by_part(make, window, graph) -> None:
    model, other = make(seed=1), make(seed=2, num_nodes=2)
    for count in (NODES + 2, NODES):
        model.expand(names(count))
    assert list(model.parts())[-1] == "relearner"
    for name, part in model.parts().items():
        for own, table in node_tables(other.parts()[name]).items():
            saved = node_tables(part)[own]
            table.adopt(saved.ids, saved.cold_ids)
        other.parts()[name].load_state_dict(part.state_dict())
    assert torch.equal(model(window, graph), other(window, graph))
    assert count_parameters(other) == count_parameters(model)


def test_every_parameter_belongs_to_exactly_one_part(model) -> None:
    found = [id(parameter) for part in model.parts().values() for parameter in part.parameters()]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())


def test_reset_leaves_nothing_of_what_was_learned(model, window, graph) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset()
    for name, parameter in model.named_parameters():
        assert not (parameter == 7.0).any(), name
    torch.testing.assert_close(model(window, graph), model.inner(window, graph), rtol=1e-5, atol=1e-5)


def test_rows_of_sensors_stay_with_them_through_growth_shrinkage_and_return(make) -> None:
    model = make()
    model.expand(NodeSet.of("abcdef"))
    tables = node_tables(model.correction)
    before = {name: dict(zip("abcdef", table.table().clone(), strict=True)) for name, table in tables.items()}
    for ids in ("acdefgh", "acgh", "hbacdef"):
        model.expand(NodeSet.of(ids))
        for name, table in tables.items():
            rows = dict(zip(ids, table.table(), strict=True))
            assert all(torch.equal(rows[known], before[name][known]) for known in set(ids) & set("abcdef")), name


# Training


def test_the_training_loss_is_that_of_the_forecast_and_reaches_every_parameter(make, window, graph, target) -> None:
    model = make()
    loss = model.training_loss(window, target, graph, masked)
    if model.weights is None:
        assert torch.equal(loss, masked(model(window, graph), target))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.numel():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_absurd_labels_do_not_change_the_forecast(make, window, graph, target) -> None:
    forecasts, states = [], []
    for values in (target.values, target.values * 1e9 - 5, torch.where(target.observed, target.values, torch.nan)):
        model = make()
        with torch.no_grad():
            torch.manual_seed(0)
            loss = model.train().training_loss(window, target._replace(values=values), graph, masked)
        assert loss.isfinite()
        states.append(model.state_dict())
        forecasts.append(model.eval()(window, graph))
    assert all(torch.equal(forecast, forecasts[0]) for forecast in forecasts)
    assert all(torch.equal(value, state[name]) for state in states for name, value in states[0].items())


@pytest.mark.parametrize("backbone", ["calendar", "gru"])
@pytest.mark.parametrize("reads", ["residual", "stacked"])
def test_with_label_weights_of_nothing_it_is_the_plain_one(window, graph, target, backbone: str, reads: str) -> None:
    plain = build(backbone, reads=reads)
    model = build(backbone, reads=reads, labels=LabelWeights(0.0, 0.0, 0.0))
    model.load_state_dict(plain.state_dict(), strict=False)
    one, other = (of.training_loss(window, target, graph, masked) for of in (plain, model))
    assert torch.equal(one, other)
    one.backward()
    other.backward()
    found = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, found[name].grad), name
    assert all(parameter.grad is None for parameter in model.correction.labels.parameters())


@pytest.mark.parametrize("backbone", ["calendar", "gru", "stgcn"])
def test_the_losses_of_labels_are_their_formulas(window, graph, target, backbone: str) -> None:
    weights = LabelWeights(base=0.7, inverse=0.3, residual=0.2)
    model = build(backbone, labels=weights)
    own, found = model.correction, model.passes(model.embed(window, graph), window, graph)
    labels = own.labels(target, window)
    cells = target.observed.sum(1).float()  # (B, N), what a window's node weighs

    def distance(one: Tensor, other: Tensor) -> Tensor:
        axes = (1, 3) if one.dim() == 4 else (2,)
        return ((one - other).abs().mean(axes) * cells).sum() / cells.sum()

    base = masked(model.inner.head(found.deep), target)
    inverse = distance(own.inverse(labels), found.shallow)
    residual = distance(found.smoothed, labels - found.deep)
    expected = masked(model(window, graph), target) + 0.7 * base + 0.3 * inverse + 0.2 * residual
    torch.testing.assert_close(model.training_loss(window, target, graph, masked), expected)


def test_targets_of_the_label_losses_get_no_gradient(window, graph, target) -> None:
    model = build("stgnn", labels=LabelWeights(base=0.0, inverse=0.0, residual=1.0))
    found = model.passes(model.embed(window, graph), window, graph)
    loss = model._label_loss(found, window, target, masked)
    (deep, smoothed) = torch.autograd.grad(loss, [found.deep, found.smoothed], retain_graph=True)
    assert smoothed.any()
    through = torch.autograd.grad(found.smoothed, found.deep, smoothed)[0]
    torch.testing.assert_close(deep, through)  # none that does not come back from the smoothed residual
    assert all(
        gradient is None
        for gradient in torch.autograd.grad(
            model._label_loss(found, window, target, masked),
            list(model.correction.labels.parameters()),
            allow_unused=True,
        )
    )


def test_a_node_without_a_label_is_in_no_loss_of_labels(window, graph, target) -> None:
    observed = target.observed.clone()
    observed[:, :, 2] = False
    unknown = target._replace(observed=observed)
    one, other = torch.randn(3, NODES, 5), torch.randn(3, NODES, 5)
    changed = one.clone()
    changed[:, 2] += 100
    assert torch.equal(apart(one, other, unknown, masked), apart(changed, other, unknown, masked))
    assert not torch.isclose(apart(one, other, target, masked), apart(changed, other, target, masked))


class Taught(nn.Module):
    """Mixed into a backbone: in training it is told a label, and adds to its loss."""

    calls = 0

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Any) -> Tensor:
        self.calls += 1
        told = torch.where(target.observed[:, :1], target.values[:, :1], 0.0)
        return criterion(self(window, graph) + told, target) + 5


def taught(backbone: Forecaster) -> Forecaster:
    backbone.__class__ = type("TaughtBackbone", (Taught, type(backbone)), {})
    return backbone


@pytest.mark.parametrize("adapted", [False, True])
def test_a_model_s_own_loss_is_made_of_its_own_first_pass_and_the_correction(window, graph, target, adapted) -> None:
    model = build("stgnn")
    plain = masked(model(window, graph), target)
    taught(model.inner)
    if adapted:
        model.inner = LoRA(model.inner, rank=2, place="weights")
        assert torch.equal(masked(model(window, graph), target), plain)
    told = torch.where(target.observed[:, :1], target.values[:, :1], 0.0)
    expected = masked(model(window, graph) + told, target) + 5
    torch.testing.assert_close(model.training_loss(window, target, graph, masked), expected)
    assert (model.inner.inner if adapted else model.inner).calls == 1


def test_labels_that_a_decoder_reads_reach_the_first_pass_alone(window, graph, target) -> None:
    model = build("dcrnn").train()
    assert not model.divisible
    torch.manual_seed(0)
    scored: list[Tensor] = []
    model.training_loss(window, target, graph, lambda out, wanted: scored.append(out) or masked(out, wanted))
    correction = model.correction.output(model.passes(model.embed(window, graph), window, graph).smoothed)
    bare = build("dcrnn").inner.train()
    torch.manual_seed(0)
    bare.training_loss(window, target, graph, lambda out, wanted: scored.append(out) or masked(out, wanted))
    torch.testing.assert_close(scored[0], scored[1] + correction)
    assert int(model.inner.sampling.batches) == int(bare.sampling.batches) == 1


def test_a_second_pass_leaves_the_running_statistics_of_the_first(window, graph, target) -> None:
    model, bare = build("stnorm").train(), build("stnorm").inner.train()
    model.inner.requires_grad_(False)
    still = next(part for part in model.inner.modules() if "statistics" in dict(part.named_children()))
    for of in (model, bare):
        of.training_loss(window, target, graph, masked)
    for name, value in bare.state_dict().items():
        torch.testing.assert_close(model.inner.state_dict()[name], value, msg=name)
    assert all(part.training for part in model.modules())
    still.eval()
    model.training_loss(window, target, graph, masked)
    assert [part for part in model.modules() if not part.training] == list(still.modules())


@pytest.mark.parametrize(
    ("options", "divisible"), [({}, True), ({"cores": 2}, False), ({"cores": 2, "dropout": 0.0}, True)]
)
def test_a_batch_is_worked_on_in_pieces_unless_something_is_drawn(options: dict[str, Any], divisible: bool) -> None:
    assert build("stgnn", **options).divisible == divisible


def test_a_batch_s_gradients_are_those_of_its_pieces(window, graph, target) -> None:
    model = build("stgnn", labels=LabelWeights())
    whole = model.training_loss(window, target, graph, masked)
    total = target.observed.sum()
    pieces = []
    for piece in (slice(0, 1), slice(1, 3)):
        part, own = Window(*(value[piece] for value in window)), Target(*(value[piece] for value in target))
        pieces.append(model.training_loss(part, own, graph, masked) * own.observed.sum() / total)
    torch.testing.assert_close(whole, sum(pieces))


@pytest.mark.parametrize(("backbone", "options"), [("stgnn", {}), ("gru", {"labels": LabelWeights()})])
def test_it_learns_a_residual_that_the_model_inside_cannot(window, graph, backbone: str, options: Any) -> None:
    model = build(backbone, learned=False, **options)
    with torch.no_grad():
        wanted = model(window, graph) + torch.randn(3, 1, NODES, generator=torch.Generator().manual_seed(0))
    target = Target(wanted, torch.ones_like(wanted, dtype=torch.bool))
    model.inner.requires_grad_(False)
    first = masked(model(window, graph), target)
    optimiser = torch.optim.Adam(model.correction.parameters(), lr=0.03)
    for _ in range(40):
        optimiser.zero_grad()
        model.training_loss(window, target, graph, masked).backward()
        optimiser.step()
    assert masked(model(window, graph), target) < 0.8 * first
