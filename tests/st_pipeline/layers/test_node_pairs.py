"""A number for each pair of nodes: its size, its product, and what growth leaves of it."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.layers.node_pairs import NodePairs
from st_pipeline.layers.node_table import node_tables, restricted
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet


def make(nodes: int, rank: int = 3) -> NodePairs:
    torch.manual_seed(0)
    return NodePairs(nodes, rank)


def expand(pairs: NodePairs, names: str) -> None:
    for table in node_tables(pairs).values():
        table.expand(NodeSet.of(names))


@pytest.mark.parametrize("rank", [2, 10])
@pytest.mark.parametrize("nodes", [200, 800])
def test_the_numbers_start_with_xaviers_variance_whatever_the_size(nodes: int, rank: int) -> None:
    matrix = make(nodes, rank)().detach()
    plain = torch.nn.init.xavier_uniform_(torch.empty(nodes, nodes))
    torch.testing.assert_close(matrix.var(), plain.var(), rtol=0.15, atol=0)
    assert abs(float(matrix.mean())) < 0.2 * float(matrix.std())


def test_mixing_is_a_product_with_the_transpose_in_values_and_gradients() -> None:
    pairs = make(7).double()
    x = torch.randn(2, 4, 7, dtype=torch.float64, requires_grad=True)
    expected = torch.empty(2, 4, 7, dtype=torch.float64)
    matrix = pairs()
    for to in range(7):
        expected[..., to] = sum(x[..., of] * matrix[to, of] for of in range(7))
    torch.testing.assert_close(pairs.mix(x), expected)
    assert torch.autograd.gradcheck(lambda given, *_: pairs.mix(given), (x, *pairs.parameters()))


def test_a_pair_keeps_its_number_through_growth_but_for_the_size_of_the_network() -> None:
    pairs = make(4)
    expand(pairs, "abcd")
    before = pairs().detach()
    expand(pairs, "dbaxyzuvw")
    kept = pairs().detach()[:3, :3]
    torch.testing.assert_close(kept * 9**0.5, before[[3, 1, 0]][:, [3, 1, 0]] * 4**0.5)
    assert count_parameters(pairs) == 2 * 9 * 3


def test_of_some_nodes_alone_it_is_that_of_their_network() -> None:
    pairs = make(4)
    expand(pairs, "abcd")
    with restricted(pairs, torch.tensor([2, 0])):
        found = pairs()
    expand(pairs, "ca")
    assert torch.equal(found, pairs())
