"""Mixing through slots is a product of two tables with a gate between, and the tables grow with the network."""

from __future__ import annotations

import math

import pytest
import torch

from st_pipeline.layers.node_mixing import NodeMixing
from st_pipeline.layers.node_table import node_tables, restricted
from st_pipeline.types import NodeSet


@pytest.fixture
def mixing() -> NodeMixing:
    torch.manual_seed(0)
    return NodeMixing(6, 3)


def test_it_is_what_a_loop_over_slots_and_nodes_gives(mixing: NodeMixing) -> None:
    x = torch.randn(2, 6, 4)
    logits, spread = mixing.gathering().detach(), mixing.spreading().detach()
    expected = torch.zeros(2, 6, 4)
    for slot in range(3):
        shares = [math.exp(logit) for logit in logits[:, slot].tolist()]
        mean = sum(share / sum(shares) * x[:, node] for node, share in enumerate(shares))
        gated = mean * 0.5 * (1 + torch.erf(mean / 2**0.5))  # GELU
        for node in range(6):
            expected[:, node] += spread[node, slot] * gated
    torch.testing.assert_close(mixing(x), expected)


def test_slots_are_weighted_means_whatever_the_number_of_nodes(mixing: NodeMixing) -> None:
    for names in ("abcdef", "abcdefghijkl", "a"):
        for table in node_tables(mixing).values():
            table.expand(NodeSet.of(names))
        weights = mixing.weights()
        assert weights.shape == (len(names), 3)
        torch.testing.assert_close(weights.sum(0), torch.ones(3))
        same = torch.randn(2, 1, 4).expand(-1, len(names), -1)  # all nodes alike: so is their mean
        expected = mixing.spreading().sum(1)[None, :, None] * torch.nn.functional.gelu(same)
        torch.testing.assert_close(mixing(same), expected)


def test_a_part_of_the_network_is_mixed_within_itself(mixing: NodeMixing) -> None:
    x, rows = torch.randn(2, 6, 4), torch.tensor([4, 0, 2])
    with restricted(mixing, rows):
        part = mixing(x[:, rows])
        torch.testing.assert_close(mixing.weights().sum(0), torch.ones(3))
    assert part.shape == (2, 3, 4)
    shares = mixing.gathering().exp()[rows]
    slots = torch.nn.functional.gelu(torch.einsum("nr,bnf->brf", shares / shares.sum(0), x[:, rows]))
    torch.testing.assert_close(part, torch.einsum("nr,brf->bnf", mixing.spreading()[rows], slots))


def test_gradients_are_those_of_differences(mixing: NodeMixing) -> None:
    mixing = mixing.double()
    x = torch.randn(2, 6, 2).double().requires_grad_()
    parameters = {name: parameter for name, parameter in mixing.named_parameters() if parameter.numel()}

    def run(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(mixing, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters.values()))
