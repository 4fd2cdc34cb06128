"""Node by node is the plain formula, whatever the order in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from st_pipeline.layers.node_major import by_node, per_node

SIZE = st.integers(1, 5)
SEEDS = st.integers(0, 1000)


def in_memory(order: tuple[int, ...], values: Tensor) -> Tensor:
    """The same values, their axes in memory in the given order."""
    places = [order.index(axis) for axis in range(values.dim())]
    return values.permute(order).contiguous().permute(places)


@given(st.tuples(SIZE, SIZE, SIZE, SIZE), st.permutations(range(4)), SEEDS, st.booleans())
def test_what_a_window_says_of_a_node_is_listed_channel_by_channel(size, order, seed: int, mask: bool) -> None:
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    values = values > 0 if mask else values
    batch, steps, nodes, channels = size
    found = per_node(in_memory(tuple(order), values))
    assert found.shape == (batch, nodes, channels * steps)
    assert torch.equal(found, values.permute(0, 2, 3, 1).flatten(2))


def test_windows_of_one_channel_are_not_copied() -> None:
    values = in_memory((2, 3, 0, 1), torch.randn(3, 4, 5, 1))
    assert per_node(values).data_ptr() == values.data_ptr()
    assert per_node(values).transpose(0, 1).is_contiguous()


@given(st.tuples(SIZE, SIZE, SIZE), SIZE, st.permutations(range(3)), st.booleans(), SEEDS)
def test_a_layer_by_node_is_the_layer(size, outputs: int, order, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(size[-1], outputs, bias=bias).double()
    values, weight = torch.randn(size, dtype=torch.float64), torch.randn(*size[:2], outputs, dtype=torch.float64)
    x = in_memory(tuple(order), values).requires_grad_()
    found, expected = by_node(layer, x), layer(x)
    torch.testing.assert_close(found, expected)
    of = [x, *layer.parameters()]
    mine, theirs = (torch.autograd.grad((out * weight).sum(), of) for out in (found, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_layer_by_node_leaves_nodes_first_in_memory(order: tuple[int, ...]) -> None:
    out = by_node(nn.Linear(4, 2), in_memory(order, torch.randn(3, 5, 4)))
    assert out.shape == (3, 5, 2)
    assert out.transpose(0, 1).is_contiguous()
