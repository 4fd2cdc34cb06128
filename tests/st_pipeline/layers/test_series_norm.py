"""Normalisation along time is batch normalisation of every node by itself; across nodes it is that of every step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers.node_table import restricted
from st_pipeline.layers.series_norm import SpatialNorm, TemporalNorm
from st_pipeline.types import NodeSet

NODES, WIDTH = 4, 3


def some(seed: int = 0, nodes: int = NODES) -> Tensor:
    """(B, T, N, width) whose nodes differ in level and spread."""
    random = torch.Generator().manual_seed(seed)
    level = torch.arange(nodes)[:, None]
    return torch.randn(5, 6, nodes, WIDTH, generator=random) * (1 + level) + 3 * level


@pytest.fixture
def norm() -> TemporalNorm:
    torch.manual_seed(0)
    norm = TemporalNorm(NODES, WIDTH)
    with torch.no_grad():
        norm.affine.appended.uniform_(-0.5, 0.5)
    for table in (norm.affine, norm.statistics):
        table.expand(NodeSet.of("abcd"))
    return norm


def torchs_own(norm: TemporalNorm, node: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(WIDTH)
    gain, shift = norm.affine()[node].detach().chunk(2)
    layer.load_state_dict({**layer.state_dict(), "weight": 1 + gain, "bias": shift})
    return layer


def test_time_is_normalised_as_by_a_batch_norm_of_every_node(norm: TemporalNorm) -> None:
    layers = [torchs_own(norm, node) for node in range(NODES)]
    for seed in range(3):
        x = some(seed)
        expected = torch.stack([layer(x[:, :, node].flatten(0, 1)) for node, layer in enumerate(layers)], 1)
        torch.testing.assert_close(norm(x).flatten(0, 1), expected, rtol=1e-4, atol=1e-5)
    norm.eval()
    expected = torch.stack([layer.eval()(some(9)[:, :, node].flatten(0, 1)) for node, layer in enumerate(layers)], 1)
    torch.testing.assert_close(norm(some(9)).flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_what_a_node_has_for_long_is_gone() -> None:
    norm = TemporalNorm(NODES, WIDTH)
    out = norm(some())
    torch.testing.assert_close(out.mean((0, 1)), torch.zeros(NODES, WIDTH), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std((0, 1), correction=0), torch.ones(NODES, WIDTH), rtol=0, atol=1e-4)


def test_evaluation_changes_no_statistics_and_sees_each_window_by_itself(norm: TemporalNorm) -> None:
    norm(some())
    norm.eval()
    before = norm.statistics().clone()
    together = norm(some(1))
    torch.testing.assert_close(norm(some(1)[2:3]), together[2:3])
    assert torch.equal(norm.statistics(), before)


def test_of_a_part_of_the_network_only_its_statistics_move(norm: TemporalNorm) -> None:
    norm(some())
    before, rows = norm.statistics().clone(), torch.tensor([3, 1])
    with restricted(norm, rows):
        part = norm(some(1)[:, :, rows])
    torch.testing.assert_close(part, norm(some(1))[:, :, rows])
    changed = (norm.statistics() != before).any(1)
    norm.statistics.record(before)
    with restricted(norm, rows):
        norm(some(1)[:, :, rows])
    assert changed.all()
    assert (norm.statistics() != before).any(1).tolist() == [False, True, False, True]


def test_statistics_stay_with_their_sensors_and_new_ones_begin_with_the_mean_of_the_known(norm: TemporalNorm) -> None:
    norm(some())
    known = dict(zip("abcd", norm.statistics().clone(), strict=True))
    norm.statistics.expand(NodeSet.of("acxy"))
    usual = torch.stack(list(known.values())).mean(0)
    for row, expected in zip(norm.statistics(), (known["a"], known["c"], usual, usual), strict=True):
        assert torch.equal(row, expected)
    norm.statistics.expand(NodeSet.of("bax"))
    for row, expected in zip(norm.statistics(), (known["b"], known["a"], usual), strict=True):
        assert torch.equal(row, expected)


def test_a_reset_leaves_mean_0_and_variance_1(norm: TemporalNorm) -> None:
    norm(some())
    for module in norm.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    torch.testing.assert_close(norm.eval()(some()), some() / (1 + 1e-5) ** 0.5)


def test_nodes_are_normalised_step_by_step() -> None:
    norm, x = SpatialNorm(WIDTH), some()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.shift.copy_(torch.tensor([0.0, -1.0, 1.0]))
    out = norm(x)
    for window in range(5):
        for step in range(6):
            own = x[window, step]
            mean, variance = own.mean(0), own.var(0, correction=0)
            expected = (own - mean) / (variance + 1e-5).sqrt() * norm.gain + norm.shift
            torch.testing.assert_close(out[window, step], expected, rtol=1e-4, atol=1e-5)


def test_what_all_nodes_have_in_common_is_gone_and_a_single_node_has_nothing_else() -> None:
    norm, x = SpatialNorm(WIDTH), some()
    common = torch.randn(5, 6, 1, WIDTH)
    torch.testing.assert_close(norm(x + common), norm(x), rtol=1e-4, atol=1e-4)
    alone = some(nodes=1).requires_grad_()
    assert not norm(alone).any()
    norm(alone).sum().backward()
    assert alone.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_differences(training: bool) -> None:
    x = some()[:2, :3].double().requires_grad_()
    assert torch.autograd.gradcheck(SpatialNorm(WIDTH).double(), (x,))
    temporal = TemporalNorm(NODES, WIDTH).double().train(training)
    before = temporal.statistics().clone()

    def run(x: Tensor) -> Tensor:
        temporal.statistics.record(before)
        return temporal(x)

    assert torch.autograd.gradcheck(run, (x,))
