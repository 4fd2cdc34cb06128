"""Normalisation across the network is torch's own, with rows that follow the sensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from st_pipeline.layers.network_norm import NetworkNorm
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet

NODES = 5


def drawn(*axes: int) -> NetworkNorm:
    torch.manual_seed(0)
    norm = NetworkNorm(NODES, *axes)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    return norm


def test_over_nodes_and_features_it_is_torchs_own_in_values_and_gradients() -> None:
    norm, plain = drawn(3), nn.LayerNorm([NODES, 3])
    plain.load_state_dict({"weight": 1 + norm.scale.table(), "bias": norm.shift.table()})
    x = torch.randn(2, 4, NODES, 3, requires_grad=True)
    torch.testing.assert_close(norm(x), plain(x))
    mine, theirs = (torch.autograd.grad(layer(x).square().sum(), [x])[0] for layer in (norm, plain))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_over_steps_as_well_each_step_of_a_node_has_its_own_scale_and_shift() -> None:
    norm, x = drawn(4, 3), torch.randn(2, 4, NODES, 3)
    scale, shift = (table.table().view(NODES, 4, 3) for table in (norm.scale, norm.shift))
    for window, found in zip(x, norm(x), strict=True):
        normal = (window - window.mean()) / (window.var(correction=0) + 1e-5).sqrt()
        for step in range(4):
            torch.testing.assert_close(found[step], normal[step] * (1 + scale[:, step]) + shift[:, step])
    assert count_parameters(norm) == 2 * NODES * 4 * 3


def test_a_new_sensor_is_normalised_and_no_more() -> None:
    norm = drawn(3)
    norm.scale.expand(NodeSet.of("abcde"))
    norm.shift.expand(NodeSet.of("abcde"))
    before = norm.scale.table().detach().clone()
    for table in (norm.scale, norm.shift):
        table.expand(NodeSet.of("abcdef"))
    x = torch.randn(NODES + 1, 3)
    torch.testing.assert_close(norm(x)[-1], nn.functional.layer_norm(x, x.shape)[-1])
    assert torch.equal(norm.scale.table()[:NODES], before)


def test_a_part_of_the_network_has_statistics_of_its_own() -> None:
    norm, rows = drawn(3), torch.tensor([3, 1])
    x = torch.randn(2, NODES, 3)
    with restricted(norm, rows):
        found = norm(x[:, rows])
    plain = nn.functional.layer_norm(x[:, rows], (2, 3), 1 + norm.scale.table()[rows], norm.shift.table()[rows])
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("axes", [(3,), (4, 3)])
def test_gradients_are_those_of_finite_differences(axes: tuple[int, ...]) -> None:
    norm = drawn(*axes).double()
    x = torch.randn(4, NODES, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, norm.scale.appended, norm.shift.appended))
