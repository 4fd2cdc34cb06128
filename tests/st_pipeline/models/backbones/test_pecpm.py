"""PECPM's network: its size, its arithmetic against the formulas, and what its attention is taught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, gelu

from st_pipeline.errors import InputError
from st_pipeline.layers.pattern_memory import AttentionLabels
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.pecpm import PECPM
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape, Target, Window

PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=8, steps_per_day=288)


def dense(weights: dict[str, Tensor], window: Window, adjacency: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (B, N, M) and forecast (B, H, N) as continual-methods, section 4.3, has them."""
    x = window.values[..., 0].transpose(1, 2)
    batch, nodes, _ = x.shape
    operator = adjacency / (adjacency.sum(1, keepdim=True) + 1e-6)

    def linear(h: Tensor, name: str) -> Tensor:
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def gcn(h: Tensor, name: str) -> Tensor:
        return linear(operator @ h, f"{name}.neighbour") + h @ weights[f"{name}.own.weight"].T

    def conv(h: Tensor, name: str) -> Tensor:
        rows = h.reshape(batch * nodes, 1, -1)
        return conv1d(rows, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1).view(batch, nodes, -1)

    when = torch.zeros(batch, nodes, 24)
    when[..., 0::2] = window.time_of_day[:, None, :12] / 288
    when[..., 1::2] = window.day_of_week[:, None, :12] / 7
    h = conv(torch.relu(gcn(x, "gcn1") + linear(when, "calendar")), "tcn1")
    h = h * torch.sigmoid(linear(h, "gate1"))
    z = conv(gcn(h, "gcn2"), "tcn2")
    z = z * torch.sigmoid(linear(z, "gate2"))
    attention = (z @ weights["memory.patterns"].T).softmax(-1)
    out = linear(gelu(z + x + attention @ weights["memory.patterns"]), "fc")
    return attention, out.transpose(1, 2)


def squared(found: Tensor, target: Target) -> Tensor:
    return ((found - target.values) ** 2).mean()


@pytest.fixture
def target() -> Target:
    return Target(torch.randn(3, 12, 8), torch.ones(3, 12, 8, dtype=torch.bool))


@pytest.fixture
def labels() -> AttentionLabels:
    return AttentionLabels(torch.rand(8, 64), torch.tensor([True, True, False, True, False, True, True, True]))


def test_the_published_form_has_9996_parameters() -> None:
    model = backbones.build({"name": "pecpm"}, shape=PUBLISHED)
    assert count_parameters(model) == 9996
    sizes = {name: count_parameters(part) for name, part in model.named_children()}
    assert sizes == {
        "gcn1": 1600,
        "calendar": 1600,
        "tcn1": 4,
        "gate1": 4160,
        "gcn2": 1548,
        "tcn2": 4,
        "gate2": 156,
        "memory": 768,
        "fc": 156,
    }


def test_the_forecast_is_that_of_the_formulas(random_window, random_graph) -> None:
    torch.manual_seed(0)
    model, graph, window = PECPM(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    _, expected = dense(model.state_dict(), window, graph.dense())
    torch.testing.assert_close(model(window, graph), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["time_of_day", "day_of_week"])
def test_the_calendar_is_that_of_the_windows_own_steps(random_window, random_graph, name: str) -> None:
    model, graph, window = PECPM(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    forecast, own = model(window, graph), getattr(window, name)
    past = torch.arange(24) < 12
    later, earlier = torch.where(past, own, (own + 1) % 7), torch.where(past, (own + 1) % 7, own)
    assert torch.equal(model(window._replace(**{name: later}), graph), forecast)
    assert not torch.isclose(model(window._replace(**{name: earlier}), graph), forecast).all()


def test_options_are_widths(random_window, random_graph) -> None:
    model = backbones.build({"name": "pecpm", "patterns": 9, "hidden": 5}, shape=PUBLISHED)
    assert (len(model.memory), model.gate1.in_features) == (9, 5)
    assert model.working_width == 12 + 9
    assert model(random_window(PUBLISHED), random_graph(8)).shape == (3, 12, 8)


@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
def test_the_attention_is_taught_the_labels_of_the_nodes_that_have_one(
    random_window, random_graph, target, labels, beta: float
) -> None:
    model, graph, window = PECPM(PUBLISHED, beta=beta), random_graph(8), random_window(PUBLISHED)
    plain = model.training_loss(window, target, graph, squared)
    torch.testing.assert_close(plain, squared(model(window, graph), target))
    model.attention_labels = labels
    attention, _ = dense(model.state_dict(), window, graph.dense())
    known = labels.known.numpy()
    expected = np.mean((attention.numpy()[:, known] - labels.values.numpy()[known]) ** 2)
    found = model.training_loss(window, target, graph, squared)
    torch.testing.assert_close(found, plain + torch.tensor(beta * expected), rtol=1e-5, atol=1e-6)


def test_what_stands_at_a_node_without_a_label_does_not_matter(random_window, random_graph, target, labels) -> None:
    model, graph, window = PECPM(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    losses = []
    for fill in (0.0, 9.0):
        model.attention_labels = labels._replace(values=torch.where(labels.known[:, None], labels.values, fill))
        losses.append(model.training_loss(window, target, graph, squared))
    assert torch.equal(*losses)
    plain = squared(model(window, graph), target)
    model.attention_labels = labels._replace(known=torch.zeros(8, dtype=torch.bool))
    torch.testing.assert_close(model.training_loss(window, target, graph, squared), plain)


def test_the_labels_teach_memory_and_network(random_window, random_graph, target, labels) -> None:
    model, graph, window = PECPM(PUBLISHED), random_graph(8), random_window(PUBLISHED)
    model.attention_labels = labels
    model.training_loss(window, target, graph, lambda found, _: 0 * found.sum()).backward()
    for part in (model.memory.patterns, model.gcn1.own.weight, model.gate2.weight):
        assert part.grad is not None
        assert part.grad.any()
    assert not model.fc.weight.grad.any()


def test_labels_are_no_part_of_what_is_stored(labels) -> None:
    model = PECPM(PUBLISHED)
    names = model.state_dict().keys()
    model.attention_labels = labels
    assert model.state_dict().keys() == names


@pytest.mark.parametrize(("option", "value"), [("beta", -1.0), ("patterns", 0)])
def test_options_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=str(value)):
        backbones.build({"name": "pecpm", option: value}, shape=PUBLISHED)
