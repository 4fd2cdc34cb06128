"""The mixture of experts: gates that follow likelihoods, experts that are what a loop gives, weeks kept by sensor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import conv1d, linear

from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.backbones import backbones
from st_pipeline.models.backbones.tfmoe import SLOTS, ProfileTable, Reconstructors, TFMoE, Weeks, gaussian_kl
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet, SeriesShape

SHAPE = SeriesShape(window=12, horizon=5, channels=2, num_nodes=6, steps_per_day=24)
PUBLISHED = SeriesShape(window=12, horizon=12, channels=1, num_nodes=655, steps_per_day=288)


def some_weeks(count: int, *, seed: int = 0, missing: float = 0.3) -> Weeks:
    random = torch.Generator().manual_seed(seed)
    observed = (torch.rand(count, SLOTS, generator=random) >= missing).float()
    return Weeks(torch.randn(count, SLOTS, generator=random) * observed, observed)


@pytest.fixture
def model() -> TFMoE:
    torch.manual_seed(0)
    model = backbones.build({"name": "tfmoe", "experts": 3, "hidden": 5, "latent": 4, "adaptive": 3}, shape=SHAPE)
    model.expand(NodeSet.of("abcdef"))
    model.profiles.write(some_weeks(6))
    return model


@pytest.fixture
def reconstructors() -> Reconstructors:
    torch.manual_seed(0)
    return Reconstructors(3, 4)


def level(table: ProfileTable) -> dict[str, float]:
    """The first slot of every sensor's week."""
    return dict(zip(table.ids, table.weeks().values[:, 0].tolist(), strict=True))


def weeks_of(levels: list[float]) -> Weeks:
    values = torch.tensor(levels)[:, None].expand(-1, SLOTS).clone()
    return Weeks(values, torch.ones_like(values))


def test_the_gates_of_every_sensor_sum_to_one(model) -> None:
    gates = model.gates()
    assert gates.shape == (3, 6)
    assert (gates >= 0).all()
    torch.testing.assert_close(gates.sum(0), torch.ones(6))


def test_the_gates_are_the_posterior_of_the_experts(model) -> None:
    weeks = model.profiles.weeks()
    found = model.reconstructors.decode(model.reconstructors.encode(weeks)[0])
    likelihood = (Normal(found, 1.0).log_prob(weeks.values) * weeks.observed).sum(-1)
    each = likelihood.double().exp()
    torch.testing.assert_close(model.gates().double(), each / each.sum(0), rtol=1e-3, atol=1e-5)


def test_the_expert_that_reconstructs_a_week_best_has_the_largest_gate(model) -> None:
    with torch.no_grad():
        model.reconstructors.decoded.weight.zero_()
        model.reconstructors.decoded.bias.copy_(torch.tensor([-2.0, 0.0, 2.0])[:, None, None])
    model.profiles.write(weeks_of([-1.9, 0.3, 5.0, 0.0, 1.4, -0.8]))
    assert model.gates().argmax(0).tolist() == [0, 1, 2, 1, 2, 1]


def test_a_sensor_without_a_week_has_equal_gates(model) -> None:
    model.expand(NodeSet.of("abcdefg"))
    torch.testing.assert_close(model.gates()[:, 6], torch.full((3,), 1 / 3))
    assert (model.gates()[:, :6] != 1 / 3).any(0).all()


def test_a_slot_that_was_not_measured_plays_no_part(model) -> None:
    before, weeks = model.gates(), some_weeks(6)
    model.profiles.write(Weeks(torch.where(weeks.observed > 0, weeks.values, 1e6), weeks.observed))
    assert torch.equal(model.gates(), before)
    noise = torch.randn(3, 6, 4)
    other = Weeks(torch.where(weeks.observed > 0, weeks.values, 1e6), weeks.observed)
    found, expected = (model.reconstructors.elbo(part, noise) for part in (other, weeks))
    assert torch.equal(found, expected)


def test_the_divergence_of_gaussians_is_that_of_torch() -> None:
    one, other = (torch.randn(2, 3, 7, 4) for _ in range(2))
    expected = kl_divergence(*(Independent(Normal(m, torch.exp(0.5 * v)), 1) for m, v in (one, other)))
    torch.testing.assert_close(gaussian_kl(*one, *other), expected)
    assert torch.equal(gaussian_kl(*one, *one), torch.zeros(3, 7))


def test_the_evidence_lower_bound_is_that_of_torch(reconstructors) -> None:
    weeks, noise = some_weeks(5), torch.randn(3, 5, 4)
    mean, log_variance = reconstructors.encode(weeks)
    posterior = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    prior = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    decoded = reconstructors.decode(mean + torch.exp(0.5 * log_variance) * noise)
    likelihood = (Normal(decoded, 1.0).log_prob(weeks.values) * weeks.observed).sum(-1)
    torch.testing.assert_close(reconstructors.elbo(weeks, noise), likelihood - kl_divergence(posterior, prior))


def test_the_bound_is_below_the_likelihood_of_the_week(reconstructors) -> None:
    """The likelihood by sampling z from the prior, for a week of which only three slots are measured."""
    weeks = some_weeks(1)
    weeks = Weeks(weeks.values, weeks.observed * (torch.arange(SLOTS) < 3))
    torch.manual_seed(1)
    bound = torch.stack([reconstructors.elbo(weeks, torch.randn(3, 1, 4)) for _ in range(400)]).mean(0)
    draws = reconstructors.decode(torch.randn(3, 4000, 4))
    likelihood = (Normal(draws, 1.0).log_prob(weeks.values) * weeks.observed).sum(-1).exp().mean(1).log()
    assert (bound[:, 0] <= likelihood + 0.01).all()


def test_experts_at_once_are_what_a_loop_over_them_gives(model, random_window, random_graph) -> None:
    window = random_window(SHAPE)
    weeks, gates = model.profiles.weeks(), model.gates()
    series = window.values.permute(0, 2, 3, 1).flatten(0, 1)  # (B * N, C, T)
    total = torch.zeros(3, SHAPE.horizon, 6)
    for k in range(3):
        first = model.reconstructors.inward
        hidden = torch.tanh(weeks.values @ first.weight[k] + first.bias[k])
        second = model.reconstructors.posterior
        code = (hidden @ second.weight[k] + second.bias[k])[:, :4]
        source, target = (torch.tanh(code @ part.weight[k] + part.bias[k]) for part in (model.source, model.target))
        adjacency = torch.softmax(torch.relu(source @ target.T), 1)
        kernel = model.convolution.weight[k].T.unflatten(1, (2, 3))
        deep = torch.relu(conv1d(series, kernel, model.convolution.bias[k, 0], stride=2, padding=1))
        collapse = model.collapse
        x = torch.relu(linear(deep.transpose(1, 2).flatten(1), collapse.weight[k].T, collapse.bias[k, 0]))
        x = x.unflatten(0, (3, 6))
        near = torch.einsum("nm,bmd->bnd", adjacency, x)
        far = torch.einsum("nm,bmd->bnd", adjacency, near)
        diffusion = model.diffusion
        x = x + torch.relu(torch.cat([x, near, far], -1) @ diffusion.weight[k] + diffusion.bias[k, 0])
        own = model.out.weight[:, 6 * k : 6 * k + 6]
        forecast = x @ own[:, :5].T + own[:, 5]
        total = total + (gates[k][:, None] * forecast).transpose(1, 2)
    torch.testing.assert_close(model(window, random_graph(6)), total, rtol=1e-4, atol=1e-5)


def test_one_expert_is_no_mixture(random_window, random_graph) -> None:
    model = backbones.build({"name": "tfmoe", "experts": 1}, shape=SHAPE)
    window, graph = random_window(SHAPE), random_graph(6)
    before = model(window, graph)
    assert torch.equal(model.gates(), torch.ones(1, 6))
    with torch.no_grad():
        model.reconstructors.decoded.bias.add_(1)
    assert torch.equal(model(window, graph), before)


def test_the_graph_is_the_learned_one(model, random_window, random_graph) -> None:
    window = random_window(SHAPE)
    assert torch.equal(model(window, random_graph(6, seed=1)), model(window, random_graph(6, seed=2)))
    adjacency = model.learned_graph(model.reconstructors.encode(model.profiles.weeks())[0])
    assert adjacency.shape == (3, 6, 6)
    torch.testing.assert_close(adjacency.sum(-1), torch.ones(3, 6))
    changed = window._replace(values=window.values.clone())
    changed.values[:, :, 0] += 3
    assert (model(changed, random_graph(6)) != model(window, random_graph(6))).any(1).all()  # every sensor hears of it


def test_weeks_follow_their_sensors_through_growth_shrinkage_and_return() -> None:
    table = ProfileTable(3)
    table.expand(NodeSet.of("abc"))
    table.write(weeks_of([1.0, 2.0, 3.0]))
    table.expand(NodeSet.of("cad"))
    assert level(table) == {"c": 3, "a": 1, "d": 0}
    assert table.weeks().known.tolist() == [True, True, False]
    table.write(weeks_of([30.0, 10.0, 40.0]))
    table.expand(NodeSet.of("bdac"))
    assert level(table) == {"b": 2, "d": 40, "a": 10, "c": 30}
    other = ProfileTable(1)
    other.adopt(table.ids, table.cold_ids)
    other.load_state_dict(table.state_dict())
    assert level(other) == level(table)
    table.reset_parameters()
    assert not table.weeks().known.any()


def test_a_sensor_without_a_reading_keeps_its_week() -> None:
    table = ProfileTable(2)
    table.expand(NodeSet.of("ab"))
    table.write(weeks_of([1.0, 2.0]))
    weeks = weeks_of([5.0, 0.0])
    table.write(Weeks(weeks.values, weeks.observed * torch.tensor([[1.0], [0.0]])))
    assert level(table) == {"a": 5, "b": 2}


def test_no_training_changes_a_week(model, random_window, random_graph) -> None:
    before = model.profiles.table().clone()
    assert not list(model.profiles.parameters())
    for change in (
        lambda: None,
        lambda: model.expand(NodeSet.of("abcdef")),
        lambda: model.profiles.adopt("abcdef", ()),
    ):
        change()
        assert not list(model.profiles.parameters())
    model.profiles.write(some_weeks(6))
    optimiser = torch.optim.AdamW(model.requires_grad_().parameters(), lr=0.1, weight_decay=0.5)
    model(random_window(SHAPE), random_graph(6)).square().mean().backward()
    optimiser.step()
    assert torch.equal(model.profiles.table(), before)


def test_some_sensors_alone_keep_their_gates(model, random_window) -> None:
    gates, rows = model.gates(), torch.tensor([4, 1])
    with restricted(model, rows):
        assert torch.equal(model.gates(), gates[:, rows])
        assert model.profiles.weeks().values.shape == (2, SLOTS)
    assert torch.equal(model.gates(), gates)


def test_the_number_of_parameters_does_not_depend_on_the_network() -> None:
    sizes = [count_parameters(backbones.build("tfmoe", shape=replace(PUBLISHED, num_nodes=n))) for n in (1, 655)]
    assert sizes == [58_208, 58_208]
    assert count_parameters(backbones.build("tfmoe", shape=PUBLISHED).reconstructors) == 47_072


@pytest.mark.parametrize("option", ["experts", "hidden", "latent", "adaptive"])
def test_an_option_below_one_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0, expected at least 1"):
        backbones.build({"name": "tfmoe", option: 0}, shape=SHAPE)
